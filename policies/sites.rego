# No tenant floods one receiver: what is over is accepted and goes out as fast as
# the plan allows, so that the receiver does not shut the door for all. What
# would wait longer than two hours the client is told to send later. Broadcast
# mail does not use up what transactional mail has.
package behalf.submission.recipient

import data.behalf.plan.plan

limit contains {
	"rule": "site-recipients",
	"key": ["tenant", input.tenant.id, "stream", input.stream, "site", input.recipient.site],
	"count": "recipients",
	"rate": plan.recipients_per_hour_each_site,
	"per": "1h",
	"over": "pace",
	"max_wait": "2h",
}
