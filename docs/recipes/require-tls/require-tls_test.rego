package behalf.submission.recipient_test

import data.behalf.submission.recipient as r

refusals(domain, asked, tls) := {d.rule |
	some d in r.deny with input as {"recipient": {"domain": domain}, "envelope": {"require_tls": asked}, "session": {"tls": tls}}
		with data.require_tls as {"domains": ["court.example"]}
}

test_strict_domains if {
	refusals("court.example", false, "TLS 1.3") == {"require-tls"}
	refusals("mail.court.example", false, "") == {"require-tls", "submitted-in-the-clear"}
	refusals("court.example", true, "") == {"submitted-in-the-clear"}
}

test_with_requiretls_or_elsewhere if {
	refusals("court.example", true, "TLS 1.3") == set()
	refusals("notcourt.example", false, "") == set()
}
