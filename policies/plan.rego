# The plan of the tenant, for the other files.
package behalf.plan

plan := object.get(data.plans, object.get(input.tenant.labels, "plan", "default"), data.plans["default"])
