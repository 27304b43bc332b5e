package behalf.submission.message_test

import data.behalf.submission.message as m

test_marked if {
	{x.op | some x in m.rewrite} == {"subject_prefix", "add_header"} with input.tenant.labels as {"environment": "staging"}
	{x.value | some x in m.tag} == {"staging"} with input.tenant.labels as {"environment": "staging"}
	count(m.warn) == 1 with input.tenant.labels as {"environment": "staging"}
}

test_not_marked if {
	count(m.rewrite | m.tag | m.warn) == 0 with input.tenant.labels as {}
}
