# Mail to some receivers must never travel in the clear, not even because a
# server on the way says that it has no TLS. The client has to ask for REQUIRETLS
# (RFC 8689), which the relay then keeps to; without it, mail to these domains and
# what is below them is refused, and so is what came to us in the clear.
package behalf.submission.recipient

deny contains {
	"rule": "require-tls",
	"code": 550,
	"enhanced": "5.7.30",
	"reason": sprintf("mail to %s must be sent with REQUIRETLS: say MAIL FROM:<...> REQUIRETLS", [input.recipient.domain]),
} if {
	tls_only
	not input.envelope.require_tls
}

deny contains {
	"rule": "submitted-in-the-clear",
	"code": 550,
	"enhanced": "5.7.30",
	"reason": sprintf("mail to %s must be submitted over TLS", [input.recipient.domain]),
} if {
	tls_only
	input.session.tls == ""
}

tls_only if input.recipient.domain in data.require_tls.domains

tls_only if {
	some domain in data.require_tls.domains
	endswith(input.recipient.domain, sprintf(".%s", [domain]))
}
