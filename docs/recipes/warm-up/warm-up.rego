# A new domain or address earns its reputation slowly: who sends much from it on
# the first day is taken for a spammer. A tenant with the label
#   warm_up_since: 2026-11-02
# may send from that day on what data.warm_up says, spread over the day; what is
# too much waits, for half a day at most. Without the label nothing changes.
package behalf.submission.sender

warm_up_day := floor((input.time - time.parse_rfc3339_ns(sprintf("%sT00:00:00Z", [input.tenant.labels.warm_up_since]))) / 86400000000000)

limit contains {
	"rule": "warm-up",
	"key": ["tenant", input.tenant.id],
	"count": "recipients",
	"rate": rate,
	"per": "24h",
	"burst": max({1, floor(rate / 4)}), # a quarter at once, the rest over the day
	"over": "pace",
	"max_wait": "12h",
} if {
	rate := data.warm_up[max({0, warm_up_day})]
}
