package policy

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// folder makes a policy folder of one sender policy and, perhaps, data.
func folder(rego string, more ...string) fstest.MapFS {
	fs := fstest.MapFS{"p.rego": {Data: []byte(rego)}}
	for i := 0; i+1 < len(more); i += 2 {
		fs[more[i]] = &fstest.MapFile{Data: []byte(more[i+1])}
	}
	return fs
}

const sender = "package behalf.submission.sender\n"

// TestCheck shows what is refused before it can go into force, each time with
// file and line, and beside it what passes.
func TestCheck(t *testing.T) {
	tests := []struct {
		name string
		fs   fstest.MapFS
		want string // "" for none; else "line: part of the message"
	}{
		{"contract example", folder(`package behalf.submission.recipient
plan := object.get(input.tenant.labels, "plan", "free")
daily := object.get(data.plans, plan, data.plans.free).daily
limit contains {"rule": "plan", "key": ["tenant", input.tenant.id], "count": "recipients", "rate": daily, "per": "24h", "burst": 200, "over": "pace", "max_wait": "30m"}
defer contains {"rule": "takeover", "code": 450, "enhanced": "4.7.1", "reason": "too many new recipients today"} if {
	input.recipient.first_time
	input.usage["24h"].new_recipients >= 200
}
`, "data.yaml", "plans: {free: {daily: 5}}"), ""},
		{"syntax", folder(sender + "deny contains {"), "2: "},
		{"field of no stage", folder(sender + `tag contains {"rule": "a", "value": input.tenant.nmae}`), "2: undefined ref: input.tenant.nmae"},
		{"field of another stage", folder(sender + `deny contains {"rule": "a", "reason": "b"} if input.message.size > 5`), "2: undefined ref: input.message"},
		{"field through a local", folder(sender + "deny contains {\"rule\": \"a\", \"reason\": \"b\"} if {\n\tt := input.tenant\n\tt.plan == \"x\"\n}"), "4: undefined ref"},
		{"field through a function", folder(sender + "deny contains {\"rule\": \"a\", \"reason\": \"b\"} if f(1)\nf(_) if input.recipient.first_time\n"), "3: undefined ref: input.recipient"},
		{"field through a helper package", folder(sender+"import data.lib\ndeny contains {\"rule\": \"a\", \"reason\": \"b\"} if lib.big",
			"lib.rego", "package lib\nbig if input.message.size > 1\n"), "2: undefined ref: input.message"},
		{"the helper in the right stage", folder("package behalf.submission.message\nimport data.lib\ndeny contains {\"rule\": \"a\", \"reason\": \"b\"} if lib.big",
			"lib.rego", "package lib\nbig if input.message.size > 1\n"), ""},
		{"wrong type", folder(sender + `deny contains {"rule": "a", "reason": "b"} if input.envelope.size + input.stream > 5`), "2: plus: invalid argument"},
		{"any label", folder(sender + `tag contains {"rule": "a", "value": input.tenant.labels.whatever}`), ""},
		{"missing data", folder(sender + `deny contains {"rule": "a", "reason": "b"} if input.stream in data.streams`), "2: data.streams is neither a rule nor in the data files"},
		{"missing data below", folder(sender+`deny contains {"rule": "a", "reason": "b"} if input.stream in data.lists.streams`, "data.yaml", "lists: {}"), "2: data.lists.streams"},
		{"data that is there", folder(sender+`deny contains {"rule": "a", "reason": "b"} if input.stream in data.lists.streams`, "data.json", `{"lists": {"streams": ["a"]}}`), ""},
		{"data in a folder", folder(sender+`deny contains {"rule": "a", "reason": "b"} if input.stream in data.lists.streams`, "lists/data.yaml", "streams: [a]"), ""},
		{"missing rule of a helper", folder(sender+`deny contains {"rule": "a", "reason": "b"} if data.lib.nothing`, "lib.rego", "package lib\nsomething := 1\n"), "2: data.lib.nothing"},
		{"unknown result", folder(sender + `denied contains {"rule": "a", "reason": "b"} if true`), "2: no result is called denied"},
		{"helper set is no result", folder(sender + "big contains x if some x in [1, 2]\ndeny contains {\"rule\": \"a\", \"reason\": \"b\"} if 3 in big"), ""},
		{"result that is no set", folder(sender + `deny := {"rule": "a", "reason": "b"}`), "2: deny is a result"},
		{"result with a value", folder(sender + `deny if true`), "2: deny is a result"},
		{"unknown field of a result", folder(sender + `deny contains {"rule": "a", "reason": "b", "kode": 550}`), `2: deny has no field "kode"`},
		{"missing field of a result", folder(sender + `limit contains {"rule": "a", "key": ["x"], "count": "messages", "rate": 5}`), `2: limit lacks the field "per"`},
		{"missing rule name", folder(sender + `deny contains {"reason": "b"}`), `2: deny lacks the field "rule"`},
		{"code that does not fit", folder(sender + `deny contains {"rule": "a", "reason": "b", "code": 450}`), "2: deny \"a\": code must be 5xx"},
		{"change of From", folder(sender + `rewrite contains {"rule": "a", "op": "add_header", "name": "From", "value": "x@y"}`), "2: rewrite \"a\": name From may not be changed"},
		{"code that does not fit beside what is computed", folder(sender + `deny contains {"rule": "a", "reason": input.stream, "code": 450}`), "2: deny \"a\": code must be 5xx"},
		{"count that is none beside what is computed", folder(sender + `limit contains {"rule": "a", "key": ["t", input.tenant.id], "count": "mails", "rate": 5, "per": "1h"}`), "2: limit \"a\": count must be messages"},
		{"all but one constant computed", folder(sender + `rewrite contains {"rule": "a", "op": op, "name": input.stream, "value": "x"} if op := concat("_", ["add", "header"])`), ""},
		{"result that is a text", folder(sender + `deny contains "x" if input.envelope.size > 5`), "2: deny: a result must be an object, this is string"},
		{"result that is computed as a text", folder(sender + "deny contains {\"rule\": \"a\", \"reason\": \"b\"}\ndeny contains why if why := sprintf(\"no %s\", [input.stream])"), "3: deny: a result must be an object, this is string"},
		{"result that is computed", folder(sender + `deny contains r if r := {"rule": "a", "reason": input.stream}`), ""},
		{"result that is in the data", folder(sender+`deny contains r if some r in data.denied`, "data.yaml", "denied: []"), ""},
		{"route of the sender stage", folder(sender + `route contains {"rule": "a", "use": "mx"}`), "2: route acts at the message stage only"},
		{"method of the recipient stage", folder("package behalf.submission.recipient\n" + `method contains m if some m in [{"rule": "a", "use": "name"}]`), "2: method acts at the message stage only"},
		{"route of the message stage", folder("package behalf.submission.message\n" + `route contains {"rule": "a", "use": "mx"}`), ""},
		{"look-up of no field", folder(sender + `tag contains {"rule": "a", "value": object.get(input.tenant, "plan", "free")}`), "2: undefined ref: input.tenant.plan"},
		{"look-up of no field, by a path", folder(sender + `tag contains {"rule": "a", "value": lower(object.get(input, ["tenant", "plan"], "free"))}`), "2: undefined ref: input.tenant.plan"},
		{"look-up of no field, as a condition", folder(sender + "tag contains {\"rule\": \"a\", \"value\": \"x\"} if {\n\tnot object.get(input.envelope, \"utf9\", false)\n}"), "3: undefined ref: input.envelope.utf9"},
		{"look-up of no field, through a local", folder(sender + "tag contains {\"rule\": \"a\", \"value\": v} if {\n\tt := input.tenant\n\tv := object.get(t, \"plan\", \"free\")\n}"), "4: undefined ref"},
		{"look-up of no field, in a helper package", folder(sender+"import data.lib\ntag contains {\"rule\": \"a\", \"value\": lib.plan}",
			"lib.rego", "package lib\nplan := object.get(object.get(input, \"tenant\", {}), \"plan\", \"free\")\n"), "2: undefined ref: input.tenant.plan"},
		{"look-ups of what may be there", folder(sender+`tag contains {"rule": "a", "value": sprintf("%v", [x])} if {
	x := [object.get(input.tenant.labels, "plan", "free"), object.get(input, ["tenant", "labels", "plan"], 1), object.get(input.tenant, "suspended", {"reason": ""}).reason,
		object.get(data.plans, "big", 0), object.get(input.usage, input.stream, 0), object.get(input.tenant.labels, input.stream, false), object.get({"a": input.stream}, "b", 1)]
}`, "data.yaml", "plans: {}"), ""},
		{"unknown stage", folder("package behalf.submission.sendr\nx := 1\n"), "1: no stage is called behalf.submission.sendr"},
		{"another stage's package", folder(sender+"deny contains {\"rule\": \"a\", \"reason\": \"b\"} if data.behalf.submission.message.big",
			"m.rego", "package behalf.submission.message\nbig if input.message.size > 1\n"), "2: behalf.submission.sender refers to behalf.submission.message"},
		{"http.send", folder(sender + `deny contains {"rule": "a", "reason": "b"} if http.send({"url": "http://127.0.0.1", "method": "get"}).status_code == 200`), "2: undefined function http.send"},
		{"the clock", folder(sender + `deny contains {"rule": "a", "reason": "b"} if time.now_ns() > 5`), "2: undefined function time.now_ns"},
		{"random numbers", folder(sender + `deny contains {"rule": "a", "reason": "b"} if rand.intn("a", 5) == 1`), "2: undefined function rand.intn"},
		{"name look-up", folder(sender + `deny contains {"rule": "a", "reason": "b"} if net.lookup_ip_addr("a.example")`), "2: undefined function net.lookup_ip_addr"},
		{"the environment", folder(sender + `tag contains {"rule": "a", "value": opa.runtime().env.PATH}`), "2: undefined function opa.runtime"},
		{"unused variable", folder(sender + "deny contains {\"rule\": \"a\", \"reason\": \"b\"} if {\n\tx := 5\n}"), "3: assigned var x unused"},
		{"recursion", folder(sender + "a if b\nb if a\n"), "2: rule data.behalf.submission.sender.a is recursive"},
		{"data over a rule", folder(sender, "lib.rego", "package lib\nx := 1\n", "data.yaml", "lib: {x: 2}"), "2: conflicting rule for data path lib/x"},
		{"bad data", folder(sender, "data.yaml", "plans:\n  a: 1\n  a: 2\n"), "3: "},
		{"error in a helper that nobody uses", folder(sender, "lib.rego", "package lib\nx := y\n"), "2: var y is unsafe"},
		{"no policy", fstest.MapFS{"README": {}}, "0: no .rego file"},
		{"a package clause alone", folder(sender), ""},
		{"hidden folders are not read", folder(sender, "..2026/p.rego", "nonsense"), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Check("", test.fs)
			if test.want == "" {
				if len(got) > 0 {
					t.Errorf("problems: %v", got)
				}
				return
			}
			line, part, _ := strings.Cut(test.want, ": ")
			for _, p := range got {
				if strings.Contains(p.Message, part) && (line == "0" || p.File != "" && line == itoa(p.Line)) {
					return
				}
			}
			t.Errorf("problems %q, want line %s with %q", got, line, part)
		})
	}
}

// TestProblemsAreShort: as an error, a mistake is told once and in one line; the
// check shows the place.
func TestProblemsAreShort(t *testing.T) {
	for rules, want := range map[string]string{
		`deny contains {"rule": "a", "reason": "b" if {` + "\n\tinput.stream\n}":           `p.rego:2: unexpected if keyword: expected "," or "}"`,
		`deny contains {"rule": "a", "reason": "b"} if input.tenant.lables.plan == "free"`: "p.rego:2: undefined ref: input.tenant.lables.plan",
	} {
		problems := Check("", folder(sender+rules))
		if got := problems.Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if len(problems) != 1 || !strings.Contains(problems[0].String(), "^") {
			t.Errorf("the place is not shown: %q", problems)
		}
	}
}

// TestFieldsAreNamedOnce: what a result may have is listed without repeats.
func TestFieldsAreNamedOnce(t *testing.T) {
	for name, s := range specs {
		fields := slices.Clone(s.fields)
		slices.Sort(fields)
		if len(slices.Compact(fields)) != len(s.fields) || s.fields[0] != "rule" {
			t.Errorf("%s has %v", name, s.fields)
		}
	}
}

func itoa(n int) string {
	return strings.TrimSuffix(strings.TrimPrefix(Problem{File: "f", Line: n}.String(), "f:"), ": ")
}

func TestSourceIsBounded(t *testing.T) {
	big := folder(sender + "# " + strings.Repeat("x", maxSource))
	if got := Check("", big); len(got) != 1 || !strings.Contains(got[0].Message, "too big") {
		t.Errorf("problems: %v", got)
	}
}

// TestNeeds shows that a set asks for exactly the costly facts it refers to.
func TestNeeds(t *testing.T) {
	tests := []struct {
		pkg, rule string
		want      Needs
	}{
		{PackageSender, `tag contains {"rule": "a", "value": input.stream}`, Needs{Sender: true}},
		{PackageSender, `deny contains {"rule": "a", "reason": "b"} if input.usage["24h"].messages > 5`, Needs{Sender: true, Usage: true}},
		{PackageSender, `deny contains {"rule": "a", "reason": "b"} if input.usage.credential["1h"].messages > 5`, Needs{Sender: true, Usage: true, CredentialUsage: true}},
		{PackageSender, `deny contains {"rule": "a", "reason": "b"} if some w in input.usage`, Needs{Sender: true, Usage: true, CredentialUsage: true}},
		{PackageRecipient, `deny contains {"rule": "a", "reason": "b"} if input.recipient.domain == "x"`, Needs{Recipient: true}},
		{PackageRecipient, `deny contains {"rule": "a", "reason": "b"} if input.recipient.first_time`, Needs{Recipient: true, FirstTime: true}},
		{PackageRecipient, `deny contains {"rule": "a", "reason": "b"} if object.get(input.recipient, "suppressed", false)`, Needs{Recipient: true, FirstTime: true, Suppressed: true}},
		{PackageMessage, `deny contains {"rule": "a", "reason": "b"} if input.message.subject == "x"`, Needs{Message: true}},
		{PackageMessage, `deny contains {"rule": "a", "reason": "b"} if some h in input.message.headers`, Needs{Message: true, Headers: true}},
		{PackageMessage, "deny contains {\"rule\": \"a\", \"reason\": \"b\"} if {\n\tm := input.message\n\tcount(m.url_hosts) > 1\n}", Needs{Message: true, Headers: true, Attachments: true, URLHosts: true}},
		{PackageMessage, `deny contains {"rule": "a", "reason": "b"} if walk(input, [_, "x"])`,
			Needs{Message: true, Usage: true, CredentialUsage: true, FirstTime: true, Suppressed: true, Headers: true, Attachments: true, URLHosts: true, Candidates: true, ReverseDNS: true, Bulk: true, Unusual: true}},
		{PackageMessage, "f(x) := x.message\ndeny contains {\"rule\": \"a\", \"reason\": \"b\"} if count(f(input).attachments) > 1",
			Needs{Message: true, Usage: true, CredentialUsage: true, FirstTime: true, Suppressed: true, Headers: true, Attachments: true, URLHosts: true, Candidates: true, ReverseDNS: true, Bulk: true, Unusual: true}},
		{PackageMessage, `deny contains {"rule": "a", "reason": "b"} if data.names[input.candidates[0].why]`, Needs{Message: true, Candidates: true}},
	}
	for _, test := range tests {
		src, err := readSource(folder("package "+test.pkg+"\n"+test.rule, "data.yaml", "names: {a: true}"))
		if err != nil {
			t.Fatal(err)
		}
		s, problems := compile(src, nil)
		if len(problems) > 0 {
			t.Fatalf("%s: %v", test.rule, problems)
		}
		if s.needs != test.want {
			t.Errorf("%s\nneeds %+v\nwant  %+v", test.rule, s.needs, test.want)
		}
	}
}
