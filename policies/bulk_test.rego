package behalf.submission.message_test

import data.behalf.submission.message as m

good := {"method": "domain", "from_domain": "acme.example", "spf": true, "dkim": true, "dmarc_policy": "none", "reverse_dns": true}

bulk_held(bulk, changes, stream, one_click) := {h.reason |
	some h in m.hold with input as {
		"tenant": {"labels": {}}, "stream": stream, "message": {"size": 1, "attachments": [], "one_click": one_click},
		"bulk": bulk, "authentication": object.union(good, changes), "unusual": {"score": 0, "reasons": []},
	}
		with data.bulk as {"threshold": 4000, "receivers": ["google", "yahoo"], "methods": ["domain"]}
	h.rule == "bulk"
}

much := [{"family": "google", "recipients": 4001}]

missing(changes) := reason if some reason in bulk_held(much, changes, "transactional", false)

test_bulk_that_lacks_something if {
	missing({"method": "name"}) == "bulk mail from acme.example to google (over 4000 recipients a day) needs a domain of your own, not method name"
	endswith(missing({"dmarc_policy": ""}), "needs a DMARC record at _dmarc.acme.example")
	endswith(missing({"spf": false}), "needs SPF to pass")
	endswith(missing({"dkim": false}), "needs an aligned DKIM signature")
	endswith(missing({"reverse_dns": false}), "needs a PTR record of the relay (ask its administrator)")
}

test_broadcast_without_one_click if {
	some reason in bulk_held(much, {}, "broadcast", false)
	endswith(reason, "needs one-click List-Unsubscribe (leave it out and we add it)")
}

test_all_that_is_missing_in_one_sentence if {
	both := [{"family": "google", "recipients": 5000}, {"family": "yahoo", "recipients": 9000}]
	some reason in bulk_held(both, {"method": "name", "dmarc_policy": "", "spf": false, "dkim": false, "reverse_dns": false}, "broadcast", false)
	contains(reason, "google and yahoo")
	count(split(reason, "; ")) == 6
	count(reason) < 400 # what a client is told at most
}

test_bulk_with_all_that_is_asked if {
	bulk_held(much, {}, "transactional", false) == set()
	bulk_held(much, {}, "broadcast", true) == set()
	bulk_held(much, {"dmarc_policy": "unknown"}, "broadcast", true) == set()
}

test_below_the_threshold_or_elsewhere if {
	bulk_held([{"family": "google", "recipients": 4000}], {"spf": false}, "broadcast", false) == set()
	bulk_held([{"family": "apple", "recipients": 9000}], {"spf": false}, "broadcast", false) == set()
	bulk_held([], {"spf": false}, "broadcast", false) == set()
}
