package behalf.submission.message_test

import data.behalf.submission.message as m

unusual(score, new, held) := {
	"envelope": {"new_recipients": new},
	"tenant": {"id": 7, "labels": {"plan": "p"}},
	"unusual": {"score": score, "new_recipients": 500, "held": held, "reasons": [
		{"name": "new_recipients", "points": 60, "detail": "500 new recipients"},
		{"name": "hour", "points": 15, "detail": "at night"},
	]},
}

lists := {"threshold": 60, "most_held": 1000, "most_held_octets": 5000, "most_held_octets_tenant": 9000}

# octets_held has so many octets held of the credential, and of the tenant.
octets_held(own, all) := object.union(unusual(75, 3, 0), {
	"envelope": {"new_recipients": 3, "size": 100},
	"unusual": {"held_octets": own, "tenant_held_octets": all},
})

held_as_unusual(i, plan) := [h |
	some h in m.hold with input as i with data.unusual as lists with data.plans as {"default": {}, "p": plan}
	h.rule == "unusual"
]

deferred_as_unusual(i, plan) := [d |
	some d in m.defer with input as i with data.unusual as lists with data.plans as {"default": {}, "p": plan}
	d.rule == "unusual-full"
]

test_unusual_mail_to_new_people_is_held if {
	[h] := held_as_unusual(unusual(75, 3, 0), {})
	h.recipients == "new"
	h.reason == "unusual for this credential: 500 new recipients; at night"
	h.detail == "score 75: 500 new recipients; at night"
	object.get(h, "release_at", "none") == "none"
}

test_mail_to_known_people_is_not if {
	held_as_unusual(unusual(75, 0, 0), {}) == []
}

test_a_little_unusual_is_not_held if {
	held_as_unusual(unusual(59, 3, 0), {}) == []
}

test_the_plan_has_more_that_is_usual if {
	held_as_unusual(unusual(75, 3, 0), {"usual_new_recipients_per_day": 500}) == []
	count(held_as_unusual(unusual(75, 3, 0), {"usual_new_recipients_per_day": 499})) == 1
}

test_enough_is_held if {
	[d] := deferred_as_unusual(unusual(75, 3, 1000), {})
	contains(d.reason, "(messages of this credential)")
}

test_more_may_be_held if {
	deferred_as_unusual(unusual(75, 3, 999), {}) == []
}

test_octets_of_a_credential_are_bounded if {
	[d] := deferred_as_unusual(octets_held(4901, 4901), {})
	contains(d.reason, "(octets of this credential)")
	deferred_as_unusual(octets_held(4900, 4900), {}) == []
}

test_octets_of_a_tenant_are_bounded if {
	[d] := deferred_as_unusual(octets_held(0, 8901), {})
	contains(d.reason, "(octets of this tenant)")
	deferred_as_unusual(octets_held(0, 8900), {}) == []
}

test_usual_mail_is_never_deferred if {
	deferred_as_unusual(unusual(0, 3, 1000), {}) == []
}
