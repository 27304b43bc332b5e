package behalf.submission.recipient_test

import data.behalf.submission.recipient as r

dropped(environment, address, domain) := {d.rule |
	some d in r.discard with input as {"tenant": {"labels": {"environment": environment}}, "recipient": {"address": address, "domain": domain}}
		with data.allow_list as {"domains": ["platform.example"], "addresses": ["qa@partner.example"]}
}

test_real_people_get_nothing if {
	dropped("staging", "ann@customer.example", "customer.example") == {"allow-list"}
	dropped("staging", "boss@partner.example", "partner.example") == {"allow-list"}
}

test_on_the_list_or_in_production if {
	dropped("staging", "dev@platform.example", "platform.example") == set()
	dropped("staging", "qa@partner.example", "partner.example") == set()
	dropped("production", "ann@customer.example", "customer.example") == set()
}
