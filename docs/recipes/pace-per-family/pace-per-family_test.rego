package behalf.submission.recipient_test

import data.behalf.submission.recipient as r

keys(stream, family) := {l.key |
	some l in r.limit with input as {"stream": stream, "tenant": {"id": 7}, "recipient": {"family": family}}
}

test_broadcast_to_a_family if {
	keys("broadcast", "microsoft") == {["tenant", 7, "family", "microsoft"]}
}

test_other_mail_and_other_receivers if {
	keys("transactional", "microsoft") == set()
	keys("broadcast", "") == set()
}
