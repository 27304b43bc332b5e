package behalf.submission.message_test

import data.behalf.submission.message as m

held(hosts) := {h.detail | some h in m.hold with input.message.url_hosts as hosts}

test_on_the_list if {
	held(["acme.example", "bit.example", "x.files.example"]) == {"links to bit.example, x.files.example"}
}

test_not_on_the_list if {
	held(["acme.example", "notbit.example"]) == set()
	held([]) == set()
}
