# What looks like data that should not leave waits for a second person, who sees
# it with  behalf message raw ID  and lets it go with  behalf queue release ID
# or not with  behalf queue cancel ID.  The one who sent it is told, and so does not
# send it again. There is no time after which it goes: silence is no consent.
package behalf.submission.message

hold contains {
	"rule": "four-eyes",
	"reason": "a second person looks at this message before it leaves",
	"detail": sprintf("found in %s", [concat(", ", sensitive)]),
} if {
	count(sensitive) > 0
}

tag contains {"rule": "four-eyes", "value": "four-eyes"} if count(sensitive) > 0

sensitive contains "the subject" if {
	some pattern in data.four_eyes.patterns
	regex.match(pattern, lower(input.message.subject))
}

sensitive contains sprintf("the file %q", [a.filename]) if {
	some a in input.message.attachments
	some pattern in data.four_eyes.patterns
	regex.match(pattern, lower(a.filename))
}
