# How many recipients one message may have, and the tenant in 24 hours.
package behalf.submission.recipient

import data.behalf.plan.plan

# 452 4.5.3 makes the client send the rest as another message (RFC 5321, 4.5.3.1.10).
defer contains {
	"rule": "recipients-per-message",
	"code": 452,
	"enhanced": "4.5.3",
	"reason": sprintf("a message may have %d recipients; send the others as another message", [plan.recipients_per_message]),
} if {
	input.envelope.recipients >= plan.recipients_per_message
}

limit contains {
	"rule": "plan-recipients",
	"key": ["tenant", input.tenant.id],
	"count": "recipients",
	"rate": plan.recipients_per_day,
	"per": "24h",
	"over": "defer",
}
