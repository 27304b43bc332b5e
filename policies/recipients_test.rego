package behalf.submission.recipient_test

import data.behalf.submission.recipient

tenant := {"id": 7, "labels": {"plan": "p"}}

plans := {"default": {}, "p": {"recipients_per_message": 3, "recipients_per_day": 100}}

test_one_too_many if {
	some d in recipient.defer with input.tenant as tenant with input.envelope.recipients as 3 with data.plans as plans
	d.rule == "recipients-per-message"
	d.code == 452
	startswith(d.reason, "a message may have 3 recipients")
}

test_the_last_that_fits if {
	count(recipient.defer) == 0 with input.tenant as tenant with input.envelope.recipients as 2 with data.plans as plans
}

test_limit_of_the_day if {
	some l in recipient.limit with input.tenant as tenant with input.envelope.recipients as 0 with data.plans as plans
	l.rate == 100
}

test_no_limit_without_a_plan if {
	free := {"id": 7, "labels": {}}
	count(recipient.limit) == 0 with input.tenant as free with input.envelope.recipients as 5000 with data.plans as plans
	count(recipient.defer) == 0 with input.tenant as free with input.envelope.recipients as 5000 with data.plans as plans
}
