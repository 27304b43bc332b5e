package behalf.submission.recipient_test

import data.behalf.submission.recipient

new_budget(first_time, label) := {l |
	some l in recipient.limit with input as {"tenant": {"id": 7, "labels": {"plan": label}}, "envelope": {"recipients": 0}, "recipient": {"first_time": first_time}}
		with data.plans as {"default": {}, "small": {"new_recipients_per_day": 200}}
	l.rule == "new-recipients"
}

test_a_new_recipient_counts if {
	some l in new_budget(true, "small")
	l.key == ["tenant", 7]
	l.rate == 200
	l.over == "hold"
}

test_a_known_recipient_does_not if {
	new_budget(false, "small") == set()
}

test_no_budget_in_the_plan if {
	new_budget(true, "none") == set()
}
