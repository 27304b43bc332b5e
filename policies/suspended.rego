# A suspended tenant sends nothing. With an end the client may come back after
# it; without one the refusal is for good.
package behalf.submission.sender

deny contains {
	"rule": "suspended",
	"code": 550,
	"enhanced": "5.7.1",
	"reason": sprintf("sending is suspended for %s: %s", [input.tenant.name, input.tenant.suspended.reason]),
} if {
	input.tenant.suspended.until == ""
}

defer contains {
	"rule": "suspended-until",
	"code": 450,
	"enhanced": "4.7.1",
	"reason": sprintf("sending is suspended for %s until %s: %s", [input.tenant.name, input.tenant.suspended.until, input.tenant.suspended.reason]),
} if {
	input.tenant.suspended.until != ""
	time.parse_rfc3339_ns(input.tenant.suspended.until) > input.time
}
