# Mail with links to hosts of a list waits for a person:  behalf queue list,
# behalf message raw ID, then  behalf queue release ID  or  behalf queue cancel ID.
package behalf.submission.message

hold contains {
	"rule": "link-review",
	"reason": "a link in this message is looked at first",
	"detail": sprintf("links to %s", [concat(", ", suspects)]),
} if {
	count(suspects) > 0
}

suspects contains host if {
	some host in input.message.url_hosts
	some bad in data.review.hosts
	host == bad
}

suspects contains host if {
	some host in input.message.url_hosts
	some bad in data.review.hosts
	endswith(host, concat("", [".", bad]))
}
