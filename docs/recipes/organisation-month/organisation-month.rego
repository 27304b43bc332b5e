# One contract, several tenants: those with the same label "organisation" share
# one allowance of recipients in 30 days, which data.organisations gives. At 90%
# and above the client is warned by the relay itself.
package behalf.submission.sender

limit contains {
	"rule": "organisation-month",
	"key": ["organisation", input.tenant.labels.organisation],
	"count": "recipients",
	"rate": data.organisations[input.tenant.labels.organisation].recipients_per_month,
	"per": "30d",
	"over": "defer",
}
