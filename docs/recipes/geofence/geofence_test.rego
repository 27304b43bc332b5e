package behalf.submission.sender_test

import data.behalf.submission.sender as s

refused(labels, addr, door) := {d.rule |
	some d in s.deny with input as {"tenant": {"labels": labels}, "credential": {"username": "acme/app"}, "session": {"addr": addr, "door": door}}
		with data.regions as {"eu": ["198.51.100.0/24", "2001:db8:e::/48"]}
}

test_from_elsewhere if {
	refused({"region": "eu"}, "203.0.113.9", "smtp") == {"geofence"}
	refused({"region": "eu"}, "2001:db8:f::1", "http") == {"geofence"}
	refused({"region": "mars"}, "198.51.100.9", "smtp") == {"geofence"}
}

test_from_home_or_without_a_fence if {
	refused({"region": "eu"}, "198.51.100.9", "smtp") == set()
	refused({"region": "eu"}, "2001:db8:e::1", "http") == set()
	refused({"region": "eu"}, "203.0.113.9", "system") == set()
	refused({}, "203.0.113.9", "smtp") == set()
}
