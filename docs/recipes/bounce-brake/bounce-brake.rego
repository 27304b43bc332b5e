# Mail that comes back, or that people call spam, hurts all who send from here.
# A tenant of whose mail of the last 24 hours more than 5% bounced is warned from
# 2% on and held above; with more than 0.3% of complaints it is refused. Small
# numbers say nothing: below 200 recipients nobody is judged.
package behalf.submission.sender

lately := input.usage["24h"]

judged if lately.recipients >= 200

hold contains {
	"rule": "bounces",
	"reason": "too much of this account's mail came back; clean the list of recipients",
	"detail": sprintf("%d bounces of %d recipients in 24 hours", [lately.bounces, lately.recipients]),
} if {
	judged
	lately.bounces * 100 > lately.recipients * 5
}

warn contains {"rule": "bounces-soon", "reason": sprintf("%d of %d recipients bounced in 24 hours: above 5%% mail is held", [lately.bounces, lately.recipients])} if {
	judged
	lately.bounces * 100 > lately.recipients * 2
}

defer contains {
	"rule": "complaints",
	"code": 450,
	"enhanced": "4.7.1",
	"reason": "too many recipients called this account's mail spam; stop and write to the support of the platform",
	"detail": sprintf("%d complaints of %d recipients in 24 hours", [lately.complaints, lately.recipients]),
} if {
	judged
	lately.complaints * 1000 > lately.recipients * 3
}
