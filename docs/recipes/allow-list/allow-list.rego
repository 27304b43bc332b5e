# Tests with a copy of real data must not reach real people. Mail of tenants with
# the label "environment: staging" leaves only for the domains and addresses of a
# list. The rest is accepted and dropped, so that the program under test goes on
# as it would; each shows as "discarded" in  behalf message list.
package behalf.submission.recipient

discard contains {
	"rule": "allow-list",
	"reason": sprintf("%s is not on the list of recipients of this test account", [input.recipient.address]),
} if {
	input.tenant.labels.environment == "staging"
	not allowed
}

allowed if input.recipient.domain in data.allow_list.domains

allowed if input.recipient.address in data.allow_list.addresses
