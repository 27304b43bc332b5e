# Who pays goes out directly from our addresses; trials go through the smart
# host, so that their reputation is not ours. A way that the relay does not have
# is passed over; with none left the client is told to come back.
package behalf.submission.message

route contains {"rule": "paying", "priority": 10, "use": ["mx", "platform"]} if {
	object.get(input.tenant.labels, "plan", "trial") != "trial"
}

route contains {"rule": "trial", "priority": 10, "use": ["platform"]} if {
	object.get(input.tenant.labels, "plan", "trial") == "trial"
}
