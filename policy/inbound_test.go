package policy

import (
	"strings"
	"testing"
	"testing/fstest"
)

// TestInbound: the stages of arriving mail give a score, refuse and limit, and
// know only what is known at their moment.
func TestInbound(t *testing.T) {
	rules := folder(`package behalf.inbound.message
score contains {"rule": "spf", "name": "SPF_FAIL", "points": 2.5} if input.auth.spf.result == "fail"
score contains {"rule": "filter", "name": "RSPAMD", "points": input.spam.score} if input.spam.required > 0
score contains {"rule": "known", "name": "SIGNED", "points": -1} if {
	some signature in input.auth.dkim
	signature.result == "pass"
}
hold contains {"rule": "junk", "reason": "looks like spam"} if input.spam.score >= input.spam.required
limit contains {"rule": "host", "key": ["addr", input.session.addr], "count": "messages", "rate": 60, "per": "1h"}
`, "connect.rego", `package behalf.inbound.connect
deny contains {"rule": "listed", "reason": sprintf("listed by %s", [l.zone])} if some l in input.dnsbl
`)
	x, err := EvalFile(t.Context(), "", rules, "", strings.NewReader(
		`{"auth": {"spf": {"result": "fail"}, "dkim": [{"result": "pass"}]}, "spam": {"score": 6.25, "required": 6}, "message": {"size": 5}}`))
	if err != nil {
		t.Fatal(err)
	}
	d := x.Decision
	if x.Package != PackageInboundMessage || d.Action != Hold || d.Score != 7.75 || len(d.Points) != 3 || len(d.Limits) != 1 {
		t.Errorf("%s: %+v", x.Package, d)
	}
	if p := d.Points[0]; p != (ScorePoints{Rule: "p.rego:filter", Name: "RSPAMD", Points: 6.25}) {
		t.Errorf("points are not in order: %+v", d.Points)
	}
	x, err = EvalFile(t.Context(), "", rules, "", strings.NewReader(`{"dnsbl": [{"zone": "bl.example", "codes": ["127.0.0.2"]}]}`))
	if err != nil || x.Package != PackageInboundConnect || x.Decision.Reason != "listed by bl.example" {
		t.Errorf("%+v, %v", x, err)
	}
}

// TestInboundCheck shows what the stages refuse of each other.
func TestInboundCheck(t *testing.T) {
	inboundRule := func(stage, rule string) fstest.MapFS {
		return folder("package behalf.inbound." + stage + "\n" + rule + "\n")
	}
	tests := []struct {
		name string
		fs   fstest.MapFS
		want string
	}{
		{"score of a submission", folder(sender + `score contains {"rule": "a", "name": "n", "points": 1}`), "no result is called score"},
		{"a helper of that name", folder(sender + "score := 5\ntag contains {\"rule\": \"a\", \"value\": sprintf(\"%d\", [score])}"), ""},
		{"route of what arrives", inboundRule("message", `route contains {"rule": "a", "use": "mx"}`), "no result is called route"},
		{"method of what arrives", inboundRule("message", `method contains {"rule": "a", "use": "domain"}`), "no result is called method"},
		{"pace of what arrives", inboundRule("message", `pace contains {"rule": "a", "until": "2026-11-05T12:00:00Z"}`), "no result is called pace"},
		{"spam before there is a message", inboundRule("recipient", `deny contains {"rule": "a", "reason": "b"} if input.spam.score > 5`), "undefined ref: input.spam"},
		{"spf before there is a sender", inboundRule("connect", `deny contains {"rule": "a", "reason": "b"} if input.auth.spf.result == "fail"`), "undefined ref: input.auth.spf"},
		{"a tenant's labels", inboundRule("message", `deny contains {"rule": "a", "reason": "b"} if input.tenant.name == "acme"`), "undefined ref: input.tenant"},
		{"points that are no number", inboundRule("message", `score contains {"rule": "a", "name": "n", "points": "5"}`), "points must be a number"},
		{"points without end", inboundRule("message", `score contains {"rule": "a", "name": "n", "points": 1e9}`), "points must be between"},
		{"points left out", inboundRule("message", `score contains {"rule": "a", "name": "n"}`), `score lacks the field "points"`},
		{"no such stage", inboundRule("data", `deny contains {"rule": "a", "reason": "b"}`), "no stage is called behalf.inbound.data"},
		{"dkim", inboundRule("message", "tag contains {\"rule\": \"a\", \"value\": s.domain} if some s in input.auth.dkim"), ""},
		{"iprev everywhere", inboundRule("recipient", `defer contains {"rule": "a", "reason": "b"} if input.auth.iprev.result == "temperror"`), ""},
	}
	for _, tt := range tests {
		problems := Check("", tt.fs)
		switch {
		case tt.want == "" && len(problems) > 0:
			t.Errorf("%s: %v", tt.name, problems)
		case tt.want != "" && (len(problems) == 0 || !strings.Contains(problems.Error(), tt.want)):
			t.Errorf("%s: %v, want %s", tt.name, problems, tt.want)
		}
	}
}
