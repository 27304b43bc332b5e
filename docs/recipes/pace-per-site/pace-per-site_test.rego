package behalf.submission.recipient_test

import data.behalf.submission.recipient as r

keys(stream) := {l.key |
	some l in r.limit with input as {"stream": stream, "tenant": {"id": 7}, "recipient": {"site": "example.net"}}
}

test_pace_per_site if {
	keys("broadcast") == {["tenant", 7, "site", "example.net"]}
	keys("transactional") == set()
}
