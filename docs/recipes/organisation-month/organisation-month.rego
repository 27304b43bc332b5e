# One contract, several tenants: those with the same label "organisation" share
# one allowance of recipients in 30 days, which data.organisations gives. Warnings
# come at 75 and 90 percent, as for every limit.
package behalf.submission.sender

limit contains {
	"rule": "organisation-month",
	"key": ["organisation", input.tenant.labels.organisation],
	"count": "recipients",
	"rate": data.organisations[input.tenant.labels.organisation].recipients_per_month,
	"per": "30d",
	"over": "defer",
}
