package behalf.submission.message_test

import data.behalf.submission.message as m

until(at, stream, zone) := {time.format(p.until) |
	some p in m.pace with input as {"time": time.parse_rfc3339_ns(at), "stream": stream, "tenant": {"labels": {"timezone": zone}}}
}

test_in_the_evening if {
	until("2026-11-05T21:30:00Z", "broadcast", "UTC") == {"2026-11-06T08:00:00Z"}
}

test_at_night if {
	until("2026-11-05T06:59:00Z", "broadcast", "Europe/Berlin") == {"2026-11-05T07:00:00Z"}
}

test_by_day_or_transactional if {
	until("2026-11-05T12:00:00Z", "broadcast", "UTC") == set()
	until("2026-11-05T23:00:00Z", "transactional", "UTC") == set()
}
