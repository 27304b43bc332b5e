package behalf.submission.message_test

import data.behalf.submission.message

size_denied(n, label) := {d.rule |
	some d in message.deny with input as {"tenant": {"labels": {"plan": label}}, "message": {"size": n}}
		with data.plans as {"default": {}, "small": {"message_size": 1000}}
}

test_too_big if {
	"size" in size_denied(1001, "small")
}

test_just_fits if {
	not "size" in size_denied(1000, "small")
}

test_no_bound_in_the_plan if {
	not "size" in size_denied(99999999, "none")
}
