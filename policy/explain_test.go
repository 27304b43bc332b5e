package policy

import (
	"strings"
	"testing"
)

// TestExplanation: of every rule that could decide it is told whether it fired,
// and the first line that did not hold, also where an index would pass it over.
func TestExplanation(t *testing.T) {
	set := folder(sender + `deny contains {"rule": "equal", "reason": "b"} if input.stream == "broadcast"
deny contains {"rule": "begin", "reason": "b"} if startswith(input.envelope.from, "x")
deny contains {"rule": "two", "reason": "b"} if {
	input.stream == "transactional"
	input.envelope.size > 100
}
deny contains {"rule": "fires", "reason": "b"} if {
	input.stream == "transactional"
}
deny contains {"rule": "excluded", "reason": "b"} if {
	to_number(input.stream) > 5
	input.tenant.name == "none"
}
helper if input.envelope.size > 5
`)
	ex, err := EvalFile(t.Context(), "", set, "", strings.NewReader(`{"stream": "transactional", "envelope": {"from": "a@b.example", "size": 7}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []RuleTrace{
		{File: "p.rego", Line: 2, Name: "deny equal", Asked: true, Failed: 2},
		{File: "p.rego", Line: 3, Name: "deny begin", Asked: true, Failed: 3},
		{File: "p.rego", Line: 4, Name: "deny two", Asked: true, Failed: 6},
		{File: "p.rego", Line: 8, Name: "deny fires", Asked: true, Fired: true},
		{File: "p.rego", Line: 11, Name: "deny excluded", Asked: true, Failed: 12},
		{File: "p.rego", Line: 15, Name: "helper"},
	}
	if len(ex.Rules) != len(want) || ex.Decision.Action != Deny {
		t.Fatalf("%+v", ex)
	}
	for i := range want {
		if ex.Rules[i] != want[i] {
			t.Errorf("got  %+v\nwant %+v", ex.Rules[i], want[i])
		}
	}
}

// TestInputIsReadStrictly: what is wrong with an input is told in the words of
// the input.
func TestInputIsReadStrictly(t *testing.T) {
	for _, test := range []struct{ input, want string }{
		{`{"mesage": {}}`, `unknown field "mesage"; did you mean "message"?`},
		{`{"message": {"fron": "a"}}`, `input of behalf.submission.message: unknown field "message.fron"; did you mean "from"?`},
		{`{"tenant": {"colour": "red"}}`, `unknown field "tenant.colour"; there are allow_from_change, id,`},
		{`{"envelope": {"size": "7"}}`, `input of behalf.submission.sender: envelope.size must be a whole number, this is a string`},
		{`{"envelope": {"size": 7.5}}`, `envelope.size must be a whole number, this is a number`},
		{`{"message": {"headers": [["a", 1]]}}`, `message.headers[0][1] must be a string, this is a whole number`},
		{`{"tenant": {"labels": {"plan": {}}}}`, `tenant.labels.plan must be a string, this is an object`},
		{`{"package": "behalf.submission.sender", "input": {"recipient": {}}}`, `unknown field "recipient"; there are credential, envelope,`},
		{`{"message": []}`, `message must be an object, this is a list`},
		{`[]`, "the input must be a JSON object"},
		{`{"message": {"from": "a@b.example", "size": 1}, "tenant": null, "unusual": {"score": 3}, "identity": {"verified": true}}`, ""},
		{`{"package": "behalf.submission.message", "input": {"tenant": {"labels": {"any": "thing"}}}}`, ""},
	} {
		_, _, err := readInput("", []byte(test.input))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s\ngot  %v\nwant %s", test.input, err, test.want)
		}
	}
}
