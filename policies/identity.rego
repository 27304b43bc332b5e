# Who may send as whom. The header From must be one of the tenant's verified
# identities, or the message must be able to go out in a way that does not
# depend on it: with the tenant's name on the platform's domain (method "name"),
# or through an account that its provider lets send as that address. An address
# that another tenant has proved to be its own is never let through.
#
# Where no way out holds at all, nothing is said here: the relay then refuses by
# itself, and names the DNS record that is missing.
#
# The envelope sender is not looked at: it is always replaced by our own.
package behalf.submission.message

deny contains {
	"rule": "identity-of-another",
	"code": 550,
	"enhanced": "5.7.1",
	"reason": sprintf("%s belongs to another customer: send from an address of your own", [input.message.from]),
} if {
	input.identity.foreign
	not input.identity.verified
}

deny contains {
	"rule": "identity-missing",
	"code": 550,
	"enhanced": "5.7.1",
	"reason": sprintf("%s is not among the verified identities of this account: add it and verify it, or allow the method name", [input.message.from]),
} if {
	not input.identity.verified
	not input.identity.foreign
	some c in input.candidates
	c.holds
	not carried_otherwise
}

carried_otherwise if {
	some c in input.candidates
	c.holds
	c.method in {"name", "connection"}
}
