# How many people a tenant may write to for the first time. A stolen secret shows
# itself by just that, and ordinary mail hardly ever: it goes to people who had
# mail before, and is never touched here.
#
# Who is over is held until the budget allows it, so that a tenant with a good
# reason loses nothing, and a person can look at what waits: release or cancel
# it. What would wait longer than four hours the client is told to send later.
package behalf.submission.recipient

import data.behalf.plan.plan

limit contains {
	"rule": "new-recipients",
	"key": ["tenant", input.tenant.id],
	"count": "recipients",
	"rate": plan.new_recipients_per_day,
	"per": "24h",
	"over": "hold",
	"max_wait": "4h",
} if {
	input.recipient.first_time
}
