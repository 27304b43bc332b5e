package behalf.submission.sender_test

import data.behalf.submission.sender as s

shared(id, labels) := {[l.key, l.rate] |
	some l in s.limit with input as {"tenant": {"id": id, "labels": labels}} with data.organisations as {"globex": {"recipients_per_month": 1000}}
}

test_two_tenants_share_one_count if {
	shared(7, {"organisation": "globex"}) == {[["organisation", "globex"], 1000]}
	shared(8, {"organisation": "globex"}) == shared(7, {"organisation": "globex"})
}

test_no_organisation_or_one_without_a_contract if {
	shared(7, {}) == set()
	shared(7, {"organisation": "elsewhere"}) == set()
}
