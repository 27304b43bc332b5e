package behalf.submission.sender_test

import data.behalf.submission.sender

noon := time.parse_rfc3339_ns("2026-11-05T12:00:00Z")

tenant(s) := {"name": "acme", "labels": {}, "suspended": s}

test_suspended_for_good if {
	some d in sender.deny with input.tenant as tenant({"reason": "phishing", "until": ""}) with input.time as noon
	d.rule == "suspended"
	d.reason == "sending is suspended for acme: phishing"
}

test_suspended_until_later if {
	some d in sender.defer with input.tenant as tenant({"reason": "unpaid", "until": "2026-11-06T00:00:00Z"}) with input.time as noon
	d.rule == "suspended-until"
	contains(d.reason, "2026-11-06")
}

test_suspension_is_over if {
	count(sender.defer) == 0 with input.tenant as tenant({"reason": "unpaid", "until": "2026-11-05T11:59:59Z"}) with input.time as noon
	count(sender.deny) == 0 with input.tenant as tenant({"reason": "unpaid", "until": "2026-11-05T11:59:59Z"}) with input.time as noon
}

test_not_suspended if {
	count(sender.deny | sender.defer) == 0 with input.tenant as {"name": "acme", "labels": {}} with input.time as noon
}
