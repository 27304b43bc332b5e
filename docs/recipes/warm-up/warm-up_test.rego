package behalf.submission.sender_test

import data.behalf.submission.sender as s

allowed(labels, at) := {[l.rate, l.burst] |
	some l in s.limit with input as {"time": time.parse_rfc3339_ns(at), "tenant": {"id": 7, "labels": labels}}
		with data.warm_up as [2, 100, 200]
}

since := {"warm_up_since": "2026-11-02"}

test_more_each_day if {
	allowed(since, "2026-11-02T00:00:00Z") == {[2, 1]}
	allowed(since, "2026-11-02T23:59:59Z") == {[2, 1]}
	allowed(since, "2026-11-03T00:00:00Z") == {[100, 25]}
	allowed(since, "2026-11-04T12:00:00Z") == {[200, 50]}
}

test_not_yet_begun_is_the_first_day if {
	allowed(since, "2026-10-20T00:00:00Z") == {[2, 1]}
}

test_warm_or_never_cold if {
	allowed(since, "2026-11-05T00:00:00Z") == set()
	allowed({}, "2026-11-02T12:00:00Z") == set()
}
