package behalf.submission.message_test

import data.behalf.submission.message as msg

ids(identity, candidates) := {d.rule |
	some d in msg.deny with input as {
		"tenant": {"labels": {}},
		"message": {"from": "a@b.example", "size": 1, "attachments": []},
		"identity": identity, "candidates": candidates,
	}
}

own := {"address": "a@b.example", "verified": true, "foreign": false, "methods": ["domain"]}

none := {"address": "", "verified": false, "foreign": false, "methods": []}

unverified := object.union(own, {"verified": false})

foreign := object.union(none, {"foreign": true})

way(method, holds) := {"upstream": "mx", "method": method, "holds": holds, "why": ""}

test_own_identity if {
	ids(own, []) == set()
}

test_no_identity if {
	ids(none, [way("name", false), way("address", true)]) == {"identity-missing"}
	ids(unverified, [way("domain", true)]) == {"identity-missing"}
}

test_no_way_out_is_not_for_the_policy_to_say if {
	ids(none, [way("domain", false), way("name", false)]) == set()
	ids(unverified, []) == set()
}

test_no_identity_but_name if {
	ids(none, [way("domain", false), way("name", true)]) == set()
	ids(none, [way("connection", true)]) == set()
}

test_identity_of_another if {
	ids(foreign, [way("name", true)]) == {"identity-of-another"}
}

test_shared_and_verified_here_too if {
	ids(object.union(own, {"foreign": true}), []) == set()
}
