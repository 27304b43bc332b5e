# Mail to new people that its credential is not used to send: very many of them
# at once, a new text, an hour at which it never sends. A stolen secret shows
# itself so. Behalf keeps the habits and gives points; here is what follows.
#
# Only the new recipients of such mail are held. Mail to people who had mail
# before goes on, and so does all other mail of the tenant. What is held shows
# "behalf tenant unusual NAME"; "behalf tenant release NAME" lets it go and makes
# it usual, "behalf tenant cancel NAME" drops it.
package behalf.submission.message

import data.behalf.plan.plan

unusual if {
	input.envelope.new_recipients > 0
	input.unusual.score >= data.unusual.threshold
	input.unusual.new_recipients > object.get(plan, "usual_new_recipients_per_day", 0)
}

# What was seen, and what is usual.
evidence := concat("; ", [r.detail | some r in input.unusual.reasons])

hold contains {
	"rule": "unusual",
	"reason": sprintf("unusual for this credential: %s", [evidence]),
	"detail": sprintf("score %d: %s", [input.unusual.score, evidence]),
	"recipients": "new",
} if {
	unusual
}

# Nobody has looked for long: more would only fill the disk.
defer contains {
	"rule": "unusual-full",
	"code": 452,
	"enhanced": "4.7.1",
	"reason": sprintf("so much unusual mail is held for review already (%s); ask your administrator", [full]),
	"detail": evidence,
} if {
	unusual
	some full in most_held
}

most_held contains "messages of this credential" if input.unusual.held >= data.unusual.most_held

most_held contains "octets of this credential" if {
	input.unusual.held_octets + input.envelope.size > data.unusual.most_held_octets
}

most_held contains "octets of this tenant" if {
	input.unusual.tenant_held_octets + input.envelope.size > data.unusual.most_held_octets_tenant
}
