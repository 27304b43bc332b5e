# A secret that is used from elsewhere was most likely stolen. Tenants with a
# label "region" may submit only from the networks of that region. (What one
# credential may be used from is its own field "networks"; this is for all of
# a tenant's, and for lists that change.) HTTP and SMTP alike.
package behalf.submission.sender

deny contains {
	"rule": "geofence",
	"code": 550,
	"enhanced": "5.7.1",
	"reason": sprintf("credential %s may not be used from %s", [input.credential.username, input.session.addr]),
	"detail": sprintf("not a network of region %s", [input.tenant.labels.region]),
} if {
	input.tenant.labels.region
	input.session.door != "system"
	not inside
}

inside if {
	some network in data.regions[input.tenant.labels.region]
	net.cidr_contains(network, input.session.addr)
}
