# The plan of the tenant, for the other files.
package behalf.plan

plan := p if {
	p := data.plans[input.tenant.labels.plan]
} else := data.plans["default"]
