package behalf.submission.message_test

import data.behalf.submission.message as m

said(labels, stream) := {
	"header": {r.value | some r in m.rewrite with input as {"tenant": {"labels": labels}, "stream": stream} with data.legal as laws},
	"tags": {t.value | some t in m.tag with input as {"tenant": {"labels": labels}, "stream": stream} with data.legal as laws},
	"held": {h.rule | some h in m.hold with input as {"tenant": {"labels": labels}, "stream": stream} with data.legal as laws},
}

laws := {"de": "Acme GmbH"}

test_a_known_country if {
	said({"country": "de"}, "broadcast") == {"header": {"Acme GmbH"}, "tags": {"law-de"}, "held": set()}
}

test_an_unknown_country if {
	said({"country": "xx"}, "broadcast") == {"header": set(), "tags": set(), "held": {"legal-missing"}}
	said({}, "transactional") == {"header": set(), "tags": set(), "held": set()}
}
