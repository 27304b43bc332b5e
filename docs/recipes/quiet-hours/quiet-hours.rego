# Broadcast mail waits for the morning: what comes between 21:00 and 8:00 in
# the tenant's time zone is accepted, and sent at eight.
package behalf.submission.message

zone := object.get(input.tenant.labels, "timezone", "UTC")

hour := time.clock([input.time, zone])[0]

hours_to_wait := 32 - hour if hour >= 21

hours_to_wait := 8 - hour if hour < 8

# The beginning of this hour, and as many hours on.
pace contains {
	"rule": "quiet-hours",
	"until": ((input.time - (input.time % 3600000000000)) + (hours_to_wait * 3600000000000)),
} if {
	input.stream == "broadcast"
}
