# Microsoft has its consumer mailboxes under more than a hundred domains, and
# counts what one sender brings to all of them together; so do the others. Broadcast
# mail to one such family goes out at 600 recipients an hour; what would wait
# for more than two hours the client is told to send later. A password reset
# never waits.
package behalf.submission.recipient

limit contains {
	"rule": "pace-per-family",
	"key": ["tenant", input.tenant.id, "family", input.recipient.family],
	"count": "recipients",
	"rate": 600,
	"per": "1h",
	"burst": 100,
	"over": "pace",
	"max_wait": "2h",
} if {
	input.stream == "broadcast"
	input.recipient.family != ""
}
