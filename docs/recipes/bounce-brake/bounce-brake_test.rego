package behalf.submission.sender_test

import data.behalf.submission.sender as s

fired(recipients, bounces, complaints) := {r.rule |
	some r in (s.hold | s.warn) | s.defer with input.usage as {"24h": {"recipients": recipients, "bounces": bounces, "complaints": complaints}}
}

test_bounces if {
	fired(1000, 51, 0) == {"bounces", "bounces-soon"}
	fired(1000, 21, 0) == {"bounces-soon"}
}

test_complaints if {
	fired(1000, 0, 4) == {"complaints"}
}

test_good_mail_and_small_numbers if {
	fired(1000, 20, 3) == set()
	fired(199, 150, 50) == set()
	fired(0, 0, 0) == set()
}
