# The rules of the big receivers for who sends them much. Google, Yahoo and
# Microsoft ask more of a domain that sends them 5,000 messages a day, and
# refuse or hide its mail, all of it, for a long time if that is missing. So
# above 4,000 a message that lacks something is held, and says what.
#
# It waits for a person, because time does not mend it: put right what is missing,
# then  behalf queue release ID.  New mail goes out as soon as it is right.
package behalf.submission.message

hold contains {
	"rule": "bulk",
	"reason": sprintf("bulk mail from %s to %s (over %d recipients a day) needs %s", [
		input.authentication.from_domain, concat(" and ", strict_receivers), data.bulk.threshold, concat("; ", bulk_lacks),
	]),
} if {
	count(strict_receivers) > 0
	count(bulk_lacks) > 0
}

strict_receivers contains b.family if {
	some b in input.bulk
	b.recipients > data.bulk.threshold
	b.family in data.bulk.receivers
}

bulk_lacks contains sprintf("a domain of your own, not method %s", [input.authentication.method]) if {
	not input.authentication.method in data.bulk.methods
}

# Could not be looked up is no reason.
bulk_lacks contains sprintf("a DMARC record at _dmarc.%s", [input.authentication.from_domain]) if {
	input.authentication.dmarc_policy == ""
}

bulk_lacks contains "SPF to pass" if not input.authentication.spf

bulk_lacks contains "an aligned DKIM signature" if not input.authentication.dkim

bulk_lacks contains "a PTR record of the relay (ask its administrator)" if {
	not input.authentication.reverse_dns
}

bulk_lacks contains "one-click List-Unsubscribe (leave it out and we add it)" if {
	input.stream == "broadcast"
	not input.message.one_click
}
