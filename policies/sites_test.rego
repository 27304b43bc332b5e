package behalf.submission.recipient_test

import data.behalf.submission.recipient

site_limit(label) := {l |
	some l in recipient.limit with input as {
		"tenant": {"id": 7, "labels": {"plan": label}}, "stream": "broadcast", "envelope": {"recipients": 0},
		"recipient": {"site": "example.net", "first_time": false},
	}
		with data.plans as {"default": {}, "small": {"recipients_per_hour_each_site": 300}}
	l.rule == "site-recipients"
}

test_each_site_has_its_own_count if {
	some l in site_limit("small")
	l.key == ["tenant", 7, "stream", "broadcast", "site", "example.net"]
	l.rate == 300
	l.over == "pace"
}

test_no_limit_of_a_site_in_the_plan if {
	site_limit("none") == set()
}
