# How many messages the tenant's plan allows in 24 hours, and each of its
# credentials in an hour. Who is over comes back later. (How many recipients:
# recipients.rego.)
package behalf.submission.sender

import data.behalf.plan.plan

limit contains {
	"rule": "plan-messages",
	"key": ["tenant", input.tenant.id],
	"count": "messages",
	"rate": plan.messages_per_day,
	"per": "24h",
	"over": "defer",
}

limit contains {
	"rule": "credential-messages",
	"key": ["credential", input.tenant.id, input.credential.username],
	"count": "messages",
	"rate": plan.messages_per_hour_each,
	"per": "1h",
	"over": "defer",
}
