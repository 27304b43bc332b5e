package behalf.submission.recipient_test

import data.behalf.submission.recipient as r

said(plan, first, n) := {d.detail |
	some d in r.defer with input as {
		"tenant": {"labels": {"plan": plan}}, "credential": {"username": "acme/app"},
		"recipient": {"first_time": first}, "usage": {"24h": {"new_recipients": n}},
	}
}

test_too_many if {
	said("pro", true, 200) == {"200 new recipients in 24 hours by acme/app"}
}

test_let_through if {
	said("pro", true, 199) == set()
	said("pro", false, 5000) == set()
	said("import", true, 5000) == set()
}
