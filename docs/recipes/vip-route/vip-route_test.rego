package behalf.submission.message_test

import data.behalf.submission.message as m

ways(stream, tag) := {r.rule: r.use | some r in m.route with input as {"stream": stream, "message": {"tag": tag}}}

test_vip_by_stream_or_tag if {
	ways("vip", "") == {"vip": ["connection:dedicated", "mx", "platform"]}
	ways("transactional", "vip-reset") == ways("vip", "")
	count(m.tag) == 1 with input as {"stream": "vip", "message": {"tag": ""}}
}

test_ordinary_mail_stays_off_it if {
	ways("transactional", "news") == {"ordinary": ["mx", "platform"]}
	count(m.tag) == 0 with input as {"stream": "broadcast", "message": {"tag": ""}}
}
