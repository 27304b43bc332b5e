# Attachments that run when opened are refused: receivers refuse them anyway,
# and the sender learns it here with the name of the file.
package behalf.submission.message

deny contains {
	"rule": "attachment-type",
	"code": 554,
	"enhanced": "5.7.1",
	"reason": sprintf("the attachment %q is of a type that receivers refuse: send a link or put it into an archive", [a.filename]),
} if {
	some a in input.message.attachments
	runs(a)
}

# "invoice.pdf.EXE. " is still a program to Windows.
runs(a) if {
	parts := split(lower(trim_right(a.filename, ". ")), ".")
	count(parts) > 1
	parts[count(parts) - 1] in data.attachments.extensions
}

runs(a) if a.content_type in data.attachments.content_types
