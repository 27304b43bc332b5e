# A tenant on trial writes to itself only: to the domain in its label "home".
package behalf.submission.recipient

deny contains {
	"rule": "sandbox",
	"code": 550,
	"enhanced": "5.7.1",
	"reason": sprintf("on trial you may write to addresses at %s only; choose a plan to write to %s", [home, input.recipient.address]),
} if {
	input.tenant.labels.plan == "trial"
	input.recipient.domain != home
}

home := object.get(input.tenant.labels, "home", "no domain")
