package behalf.submission.message_test

import data.behalf.submission.message as m

by(labels) := {r.rule: r.use | some r in m.route with input.tenant.labels as labels}

test_routes if {
	by({"plan": "pro"}) == {"paying": ["mx", "platform"]}
	by({"plan": "trial"}) == {"trial": ["platform"]}
	by({}) == {"trial": ["platform"]}
}
