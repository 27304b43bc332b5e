package behalf.submission.recipient_test

import data.behalf.submission.recipient as r

denied(labels, domain) := {d.reason |
	some d in r.deny with input as {"tenant": {"labels": labels}, "recipient": {"address": concat("@", ["a", domain]), "domain": domain}}
}

test_sandbox if {
	denied({"plan": "trial", "home": "acme.example"}, "acme.example") == set()
	denied({"plan": "pro"}, "other.example") == set()
	count(denied({"plan": "trial", "home": "acme.example"}, "other.example")) == 1
	count(denied({"plan": "trial"}, "acme.example")) == 1
}
