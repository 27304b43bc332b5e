package behalf.submission.message_test

import data.behalf.submission.message as m

attached(name, type) := {d.rule |
	some d in m.deny with input as {
		"tenant": {"labels": {}},
		"message": {"size": 1, "attachments": [{"filename": name, "content_type": type, "size": 1}]},
	}
}

test_program if {
	every name in ["setup.exe", "invoice.pdf.EXE", "x.js. ", "a.b.scr."] {
		"attachment-type" in attached(name, "application/octet-stream")
	}
}

test_program_by_type if {
	"attachment-type" in attached("", "application/x-msdownload")
}

test_document if {
	every name in ["invoice.pdf", "exe", "", "exe.txt", "logo.png"] {
		not "attachment-type" in attached(name, "application/pdf")
	}
}
