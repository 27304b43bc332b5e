# A stolen secret shows itself by mail to many people the tenant never wrote to.
# Tenants on the plan "import" may.
package behalf.submission.recipient

defer contains {
	"rule": "takeover",
	"code": 450,
	"enhanced": "4.7.1",
	"reason": "too many new recipients today; write to the support of the platform if this is meant",
	"detail": sprintf("%d new recipients in 24 hours by %s", [input.usage["24h"].new_recipients, input.credential.username]),
} if {
	input.recipient.first_time
	object.get(input.tenant.labels, "plan", "") != "import"
	input.usage["24h"].new_recipients >= 200
}
