package behalf.submission.sender_test

import data.behalf.submission.sender as s

rules(name) := {l.rule: l |
	some l in s.limit with input.tenant as {"id": 7, "labels": {"plan": name}} with input.credential.username as "acme/app"
		with data.plans as {"default": {}, "both": {"messages_per_day": 500, "messages_per_hour_each": 20}}
}

test_plan_with_limits if {
	found := rules("both")
	found["plan-messages"].rate == 500
	found["plan-messages"].key == ["tenant", 7]
	found["credential-messages"].rate == 20
	found["credential-messages"].key == ["credential", 7, "acme/app"]
}

test_plan_without_limits if {
	rules("default") == {}
}
