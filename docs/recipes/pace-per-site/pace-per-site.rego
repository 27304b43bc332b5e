# No tenant floods one receiver: more than 600 recipients an hour at one site
# are accepted and sent as the limit allows, and deferred if they would wait for
# more than two hours. Broadcast mail only; a password reset never waits.
package behalf.submission.recipient

limit contains {
	"rule": "pace-per-site",
	"key": ["tenant", input.tenant.id, "site", input.recipient.site],
	"count": "recipients",
	"rate": 600,
	"per": "1h",
	"burst": 100,
	"over": "pace",
	"max_wait": "2h",
} if {
	input.stream == "broadcast"
}
