# Mail from no-reply addresses is not written by a person, and says so (RFC 3834):
# else holiday notes come back for each, and land in the bounces. What the client
# set itself stays.
package behalf.submission.message

automatic if regex.match(`^(no|do-?not)[-_.]?reply([-_.+@]|$)`, lower(input.message.from))

marked if {
	some header in input.message.headers
	lower(header[0]) == "auto-submitted"
}

rewrite contains {"rule": "auto-generated", "op": "add_header", "name": "Auto-Submitted", "value": "auto-generated"} if {
	automatic
	not marked
}

# Exchange looks at this one.
rewrite contains {"rule": "auto-generated-exchange", "op": "add_header", "name": "X-Auto-Response-Suppress", "value": "OOF, AutoReply"} if {
	automatic
	not marked
}

tag contains {"rule": "auto-generated", "value": "automatic"} if automatic
