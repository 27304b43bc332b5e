package relay_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"behalf/mail"
	"behalf/policies"
	"behalf/policy"
	"behalf/relay"
	"behalf/relay/relaytest"
)

// lowBulk is the default policies with a threshold of three.
func lowBulk(t testing.TB) map[string]string {
	t.Helper()
	names, err := fs.Glob(policies.FS, "*")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, name := range names {
		b, err := fs.ReadFile(policies.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = strings.Replace(string(b), "threshold: 4000", "threshold: 3", 1)
	}
	return files
}

// heldFor is why the one recipient of a message is held; empty: it is not.
func heldFor(w *relaytest.World, p *relay.Principal, text, to string) string {
	w.T.Helper()
	r := w.Accepted(p, "app@acme.example", text, to).Recipients[0]
	if r.State != mail.Held {
		return ""
	}
	if !r.Next.IsZero() {
		w.T.Errorf("held until %s, not for a person", r.Next)
	}
	return r.Reason
}

// TestBulkRules: what goes to a big receiver above the threshold must have what
// it asks for; what is missing is named, and nothing else is touched.
func TestBulkRules(t *testing.T) {
	const list = "List-Unsubscribe: <https://acme.example/u/1>\n"
	for _, c := range []struct {
		name, fields, header, dmarc string
		reverse, want               string // what is missing
	}{
		{name: "all is there", dmarc: "v=DMARC1; p=none", reverse: host},
		{name: "no DMARC record", reverse: host, want: "needs a DMARC record at _dmarc.acme.example"},
		{name: "no name in the DNS", dmarc: "v=DMARC1; p=none", want: "needs a PTR record of the relay (ask its administrator)"},
		{name: "through a smart host, whose name is its own affair", fields: `"route":[{"upstream":"platform"}]`, dmarc: "v=DMARC1; p=reject"},
		{name: "by name", fields: `"methods":["name"]`, reverse: host, want: "needs a DMARC record at _dmarc.platform.example; a domain of your own, not method name"},
		{name: "by name because the client asks", fields: `"methods":["domain","name"],"allow_from_change":true`, header: "Behalf-Method: name\n", dmarc: "v=DMARC1; p=none", reverse: host,
			want: "needs a DMARC record at _dmarc.platform.example; a domain of your own, not method name"},
		{name: "broadcast, ours to unsubscribe", header: "Behalf-Stream: broadcast\n", dmarc: "v=DMARC1; p=none", reverse: host},
		{name: "broadcast, the client's pair", header: "Behalf-Stream: broadcast\nList-Unsubscribe-Post: list-unsubscribe=one-click\n" + list, dmarc: "v=DMARC1; p=none", reverse: host},
		{name: "broadcast, by mail only", header: "Behalf-Stream: broadcast\nList-Unsubscribe: <mailto:u@acme.example>\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\n", dmarc: "v=DMARC1; p=none", reverse: host,
			want: "needs one-click List-Unsubscribe (leave it out and we add it)"},
		{name: "broadcast, half a pair", header: "Behalf-Stream: broadcast\n" + list, dmarc: "v=DMARC1; p=none", reverse: host,
			want: "needs one-click List-Unsubscribe (leave it out and we add it)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dns := &names{addrs: map[string][]string{host: {"192.0.2.1"}}, ptr: map[string][]string{"192.0.2.1": {c.reverse}}}
			w := acme(t, relaytest.Options{Rules: lowBulk(t), Planner: func(o *relay.PlannerOptions) { o.ReverseDNS = relay.NewReverseDNS(dns, host, nil, nil) }}, c.fields)
			if c.dmarc != "" {
				w.DNS.TXTRecord("_dmarc.acme.example", c.dmarc)
			}
			text, app := c.header+body, w.App()
			for i := range 3 {
				if why := heldFor(w, app, text, fmt.Sprintf("u%d@gmail.com", i)); why != "" {
					t.Fatalf("message %d is held: %s", i, why)
				}
			}
			for _, to := range []string{"you@there.example", "you@yahoo.com", "you@icloud.com"} {
				if why := heldFor(w, app, text, to); why != "" {
					t.Errorf("%s is held: %s", to, why)
				}
			}
			why := heldFor(w, app, text, "you@googlemail.com")
			if c.want == "" && why != "" || !strings.HasSuffix(why, c.want) {
				t.Errorf("held for %q, want %q", why, c.want)
			}
		})
	}
}

// factsRule tells what a message looks like to the rules.
const factsRule = `warn contains {"rule": "facts", "reason": json.marshal({"a": input.authentication, "b": input.bulk, "o": input.message.one_click})}
deny contains {"rule": "no", "reason": "refused"} if input.message.subject == "refuse me"
`

type seenFacts struct {
	A policy.Authentication
	B []policy.Bulk
	O bool
}

func facts(w *relaytest.World, p *relay.Principal, e mail.Envelope, text string, to ...string) (s seenFacts) {
	w.T.Helper()
	r, err := w.SendEnvelope(p, e, text, to...)
	if err != nil {
		w.T.Fatal(err)
	}
	if err := json.Unmarshal([]byte(r.Warnings[0]), &s); err != nil {
		w.T.Fatalf("%q: %v", r.Warnings, err)
	}
	return s
}

// TestAuthenticationFacts: what receivers are expected to find, by each method.
func TestAuthenticationFacts(t *testing.T) {
	const platform = "platform.example"
	for _, c := range []struct {
		name, fields, with, dmarc, header string
		noPath, null                      bool
		planner                           func(*relay.PlannerOptions)
		want                              policy.Authentication
	}{
		{name: "domain", dmarc: "v=DMARC1; p=quarantine",
			want: policy.Authentication{Method: "domain", FromDomain: "acme.example", SPF: true, DKIM: true, DMARCPolicy: "quarantine", ReverseDNS: true}},
		{name: "domain while its return path is not in order: ours is used", noPath: true,
			want: policy.Authentication{Method: "domain", FromDomain: "acme.example", SPF: true, DKIM: true, ReverseDNS: true}},
		{name: "the null sender", null: true,
			want: policy.Authentication{Method: "domain", FromDomain: "acme.example", DKIM: true, ReverseDNS: true}},
		{name: "name", fields: `"methods":["name"]`, dmarc: "v=DMARC1; p=reject",
			want: policy.Authentication{Method: "name", FromDomain: platform, SPF: true, DKIM: true, ReverseDNS: true}},
		{name: "connection", fields: `"methods":["connection"],"route":[{"connection":"office"}]`, with: office + "}", dmarc: "v=DMARC1; p=reject",
			want: policy.Authentication{Method: "connection", FromDomain: "acme.example", SPF: true, DKIM: true, DMARCPolicy: "reject", ReverseDNS: true}},
		{name: "address", fields: `"methods":["address"]`, with: `{"kind":"identity","tenant":"acme","address":"support@acme.example","verified":true}`,
			want: policy.Authentication{Method: "address", FromDomain: "acme.example", SPF: true, ReverseDNS: true}},
		{name: "development: the DNS is taken to show what it should", planner: func(o *relay.PlannerOptions) { o.Capture, o.Mailbox = true, relaytest.Nowhere{} },
			want: policy.Authentication{Method: "domain", FromDomain: "acme.example", SPF: true, DKIM: true, DMARCPolicy: "none", ReverseDNS: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := acme(t, relaytest.Options{Rules: map[string]string{"f.rego": "package behalf.submission.message\n" + factsRule}, Planner: c.planner}, c.fields)
			if c.with != "" {
				w.Apply(c.with)
			}
			if c.dmarc != "" {
				w.DNS.TXTRecord("_dmarc.acme.example", c.dmarc)
			}
			if c.noPath {
				w.DNS.MXRecord("bounce.acme.example")
			}
			e := mail.Envelope{From: relaytest.Address(t, "app@acme.example")}
			if c.null {
				e.From = mail.Address{}
			}
			if got := facts(w, w.App(), e, body, "you@there.example"); got.A != c.want || len(got.B) != 0 || got.O {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

// TestBulkCounts: by organisational domain of From and by family, each message
// with its own recipients, over a restart; what is refused does not count. Where
// many tenants send from one domain each has its own count, so that nobody uses
// up what is there for its neighbours.
func TestBulkCounts(t *testing.T) {
	const secret = "bhf_sub-secret-0123456789-0123456789-0123456789xx"
	w := acme(t, relaytest.Options{Rules: map[string]string{"f.rego": "package behalf.submission.message\n" + factsRule}}, `"methods":["domain","name"],"allow_from_change":true`)
	w.Apply(`{"kind":"domain","tenant":"acme","name":"b.shared.example","return_path":"bounce"}`,
		`{"kind":"tenant","name":"sub","methods":["domain","name"],"allow_from_change":true}`,
		`{"kind":"credential","tenant":"sub","name":"app","secret":"`+secret+`"}`,
		`{"kind":"domain","tenant":"sub","name":"c.shared.example","return_path":"bounce"}`)
	w.Publish("acme", "b.shared.example")
	w.Publish("sub", "c.shared.example")
	app, sub := w.App(), w.Login("sub/app", secret)
	as := func(from string) string { return strings.Replace(body, "support@acme.example", from, 1) }
	byName := func(s string) string { return "Behalf-Method: name\n" + s }
	check := func(p *relay.Principal, text string, want string, to ...string) {
		t.Helper()
		var got []string
		for _, b := range facts(w, p, mail.Envelope{From: relaytest.Address(t, "app@acme.example")}, text, to...).B {
			got = append(got, fmt.Sprintf("%s %d", b.Family, b.Recipients))
		}
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("%q, want %q", s, want)
		}
	}
	check(app, as("a@b.shared.example"), "google 2, yahoo 1", "a@gmail.com", "b@googlemail.com", "c@aol.com", "d@there.example")
	check(app, as("a@b.shared.example"), "google 3", "a@gmail.com")
	check(app, body, "google 1", "a@gmail.com")
	check(sub, as("a@c.shared.example"), "google 4", "a@gmail.com")
	if _, err := w.Send(app, "app@acme.example", strings.Replace(as("a@b.shared.example"), "Subject: Hi", "Subject: refuse me", 1), "a@gmail.com"); err == nil {
		t.Fatal("the message was to be refused")
	}
	check(app, as("a@b.shared.example"), "google 5", "a@gmail.com")
	check(app, byName(body), "google 1", "a@gmail.com")
	check(sub, byName(as("a@c.shared.example")), "google 1", "a@gmail.com")
	check(app, byName(as("a@b.shared.example")), "google 2", "a@gmail.com")
	if err := w.Bulk.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Open()
	app = w.App()
	check(app, as("a@b.shared.example"), "google 6", "a@gmail.com")
	check(app, byName(body), "google 3", "a@gmail.com")
}

// TestBulkAtOnce: messages at the same time see each other, so that no more than
// the threshold passes.
func TestBulkAtOnce(t *testing.T) {
	w := acme(t, relaytest.Options{Rules: lowBulk(t)}, "") // and no DMARC record
	app := w.App()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, err := w.Send(app, "app@acme.example", body, fmt.Sprintf("u%d@gmail.com", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	sent := 0
	for _, st := range w.Offered() {
		if st.Recipients[0].State == mail.Queued {
			sent++
		}
	}
	if sent != 3 {
		t.Errorf("%d were sent, want 3", sent)
	}
}

// TestBulkOfOthers: who has not proved that it may send as a domain counts
// apart, whether its mail is refused in the end or goes through a connection of
// its own: it cannot use up what is there for those who have.
func TestBulkOfOthers(t *testing.T) {
	const secret = "bhf_sub-secret-0123456789-0123456789-0123456789xx"
	const refuse = `deny contains {"rule": "no", "reason": sprintf("%d there", [input.bulk[0].recipients])} if input.identity.methods == []` + "\n"
	for name, c := range map[string]struct{ fields, with string }{
		"refused": {`"methods":["domain"]`, ""},
		"through a connection": {`"methods":["connection"],"route":[{"connection":"office"}]`,
			strings.NewReplacer(`"tenant":"acme"`, `"tenant":"sub"`, "acme.example", "b.shared.example").Replace(office) + "}"},
	} {
		t.Run(name, func(t *testing.T) {
			w := acme(t, relaytest.Options{Rules: map[string]string{"f.rego": "package behalf.submission.message\n" + factsRule + refuse}}, "")
			w.Apply(`{"kind":"domain","tenant":"acme","name":"b.shared.example","return_path":"bounce"}`,
				`{"kind":"tenant","name":"sub",`+c.fields+`}`, `{"kind":"credential","tenant":"sub","name":"app","secret":"`+secret+`"}`)
			if c.with != "" {
				w.Apply(c.with)
			}
			w.Publish("acme", "b.shared.example")
			app, sub := w.App(), w.Login("sub/app", secret)
			e := mail.Envelope{From: relaytest.Address(t, "app@acme.example")}
			text := strings.Replace(body, "support@acme.example", "a@b.shared.example", 1)
			for i := range int64(3) {
				if b := facts(w, app, e, text, "a@gmail.com").B; b[0].Recipients != i+1 {
					t.Errorf("the owner's message %d: %+v", i+1, b)
				}
				if c.with != "" {
					if b := facts(w, sub, e, text, "a@gmail.com").B; b[0].Recipients != i+1 {
						t.Errorf("the other's message %d: %+v", i+1, b)
					}
				} else if _, err := w.SendEnvelope(sub, e, text, "a@gmail.com"); !strings.Contains(wantFailure(t, err, "550 5.7.1").Text, "1 there") {
					t.Errorf("the other's message %d: %v", i+1, err)
				}
			}
		})
	}
}
