package behalf.submission.message_test

import data.behalf.submission.message as m

added(from, headers) := {r.name | some r in m.rewrite with input.message as {"from": from, "headers": headers}}

both := {"Auto-Submitted", "X-Auto-Response-Suppress"}

test_no_reply_addresses if {
	every from in ["no-reply@acme.example", "NoReply@acme.example", "donotreply+7@acme.example", "do-not-reply@acme.example"] {
		added(from, [["Subject", "Hi"]]) == both
	}
	count(m.tag) == 1 with input.message as {"from": "noreply@acme.example", "headers": []}
}

test_people_and_what_is_marked if {
	every from in ["ann@acme.example", "noreplys@acme.example", "ask-no-reply@acme.example"] {
		added(from, []) == set()
	}
	added("noreply@acme.example", [["auto-submitted", "auto-replied"]]) == set()
	count(m.tag) == 0 with input.message as {"from": "ann@acme.example", "headers": []}
}
