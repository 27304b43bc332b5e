package behalf.plan_test

import data.behalf.plan

plans := {"default": {"n": 1}, "pro": {"n": 2}}

test_plan_of_the_label if {
	plan.plan.n == 2 with input.tenant.labels as {"plan": "pro"} with data.plans as plans
}

test_default_without_a_label if {
	plan.plan.n == 1 with input.tenant.labels as {} with data.plans as plans
}

test_default_for_an_unknown_plan if {
	plan.plan.n == 1 with input.tenant.labels as {"plan": "gold"} with data.plans as plans
}
