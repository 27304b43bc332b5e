# How big a message may be by the tenant's plan. The server's own bound, which
# EHLO announces, holds besides.
package behalf.submission.message

import data.behalf.plan.plan

deny contains {
	"rule": "size",
	"code": 552,
	"enhanced": "5.3.4",
	"reason": sprintf("the message has %d octets; the plan allows %d: send a link instead of the attachment", [input.message.size, plan.message_size]),
} if {
	most := plan.message_size # first: a plan without it need not look at the size
	input.message.size > most
}
