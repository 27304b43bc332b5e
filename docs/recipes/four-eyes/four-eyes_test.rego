package behalf.submission.message_test

import data.behalf.submission.message as m

sent(subject, files) := {"subject": subject, "attachments": [{"filename": f} | some f in files]}

held_for(message) := {h.detail | some h in m.hold with input.message as message}

test_subject_and_file if {
	held_for(sent("Re: Payroll March", [])) == {"found in the subject"}
	held_for(sent("Hi", ["Customer_List.xlsx", "logo.png"])) == {`found in the file "Customer_List.xlsx"`}
	held_for(sent("confidential", ["backup.SQL"])) == {`found in the file "backup.SQL", the subject`}
}

test_the_client_is_told if {
	{h.reason | some h in m.hold} == {"a second person looks at this message before it leaves"} with input.message as sent("salaries", [])
	count(m.tag) == 1 with input.message as sent("salaries", [])
}

test_ordinary_mail if {
	held_for(sent("Your order", ["invoice.pdf"])) == set()
	count(m.tag) == 0 with input.message as sent("Your order", ["invoice.pdf"])
}
