package main_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"behalf/internal/testkit/lab"
	"behalf/internal/testkit/smtppeer"
)

// moody answers 451 to every recipient while down is set.
func moody(down *atomic.Bool) func(smtppeer.Step) smtppeer.Action {
	return func(s smtppeer.Step) smtppeer.Action {
		if s.Verb == "RCPT" && down.Load() {
			return smtppeer.Action{Reply: "451 4.3.0 not now"}
		}
		return smtppeer.Action{}
	}
}

func TestE2EQueueOperations(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	down.Store(true)
	w := lab.NewWorld(t, nil, moody(&down))
	r := start(t, w, "")
	ids := map[string]string{}
	for _, what := range []string{"retried", "held", "cancelled", "bulk"} {
		ids[what] = send(t, r, "you@sink.test", what, "--tag", what)
		r.Reaches(t, ids[what], "deferred", soon)
	}
	r.MustCLI(t, "queue", "hold", ids["held"], "--reason", "to look at it")
	r.MustCLI(t, "queue", "cancel", ids["cancelled"])
	r.MustCLI(t, "queue", "hold", "--tag", "bulk")
	for what, state := range map[string]string{"held": "held", "cancelled": "cancelled", "bulk": "held"} {
		r.Reaches(t, ids[what], state, soon)
	}
	down.Store(false)
	r.MustCLI(t, "queue", "retry", "--all")
	r.Reaches(t, ids["retried"], "delivered", soon)
	if s := r.Show(t, ids["held"]).States(); s != "held" {
		t.Errorf("the held message is %s after retry", s)
	}
	r.MustCLI(t, "queue", "release", ids["held"])
	r.MustCLI(t, "queue", "release", "--state", "held")
	r.Reaches(t, ids["held"], "delivered", soon)
	r.Reaches(t, ids["bulk"], "delivered", soon)
	if lab.Count(w.Sink, "Subject: cancelled") > 0 {
		t.Error("the cancelled message was delivered")
	}
	trace := r.MustCLI(t, "message", "trace", ids["held"])
	if !strings.Contains(trace, "to look at it") || !strings.Contains(trace, "451 4.3.0 not now") {
		t.Errorf("the trace lacks the reason or the answer:\n%s", trace)
	}
	if out := r.MustCLI(t, "queue", "cancel", ids["held"]); !strings.Contains(out, "0 recipients changed") {
		t.Errorf("a delivered message was cancelled: %s", out)
	}
	if out, err := r.CLI(t, "", "queue", "hold"); err == nil || !strings.Contains(err.Error(), "exit status 2") {
		t.Errorf("hold of nothing: %s, %v, want wrong usage", out, err)
	}
}

// A trace holds what the contract lists.
func TestE2ETrace(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	down.Store(true)
	w := lab.NewWorld(t, nil, moody(&down))
	r := start(t, w, "delivery: { retry: [1s] }\n")
	out := lab.MustRun(t, "", lab.Program(t, "swaks"), "--server", r.Submission, "--tls", "--auth", "PLAIN", "--auth-user", lab.AcmeUser, "--auth-password", lab.AcmeSecret,
		"--from", acmeFrom, "--to", "you@sink.test", "--header", "Subject: traced")
	id := idIn(t, out)
	r.Reaches(t, id, "deferred", soon)
	down.Store(false)
	r.Reaches(t, id, "delivered", soon)
	for format, wants := range map[string][]string{
		"table": {
			"acme/app", "127.0.0.1", "TLS 1.3", "method     ->  domain through mx", "no  connection through mx", "SPF pass, aligned (bounce.acme.test)", "DKIM pass, aligned (d=acme.test)", "DMARC pass",
			"d=acme.test s=b1", "d=acme.test s=b2", "mx.sink.test [" + w.Sink.AddrPort.String() + "]", "unverified", "451 4.3.0 not now", "next try", "250 2.0.0 queued", "delivered    you@sink.test",
		},
		"json": {`"message.accepted"`, `"message.deferred"`, `"message.delivered"`, `"took"`, `"reply"`},
	} {
		trace := r.MustCLI(t, "message", "trace", id, "-o", format)
		for _, want := range wants {
			if !strings.Contains(trace, want) {
				t.Errorf("the trace as %s lacks %q:\n%s", format, want, trace)
			}
		}
	}
}

// A stop lets what is under way end: the message that is being submitted is
// answered and kept, the one that is being delivered is delivered once.
func TestE2EGracefulStop(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, func(s smtppeer.Step) smtppeer.Action {
		if s.Verb == "DOT" {
			return smtppeer.Action{Wait: 1500 * time.Millisecond}
		}
		return smtppeer.Action{}
	})
	r := start(t, w, "")
	id := send(t, r, "you@sink.test", "under way")
	lab.Until(t, soon, "the delivery to begin", func() bool {
		return strings.Contains(strings.Join(w.Sink.Lines(), "\n"), "DATA")
	})
	begun := time.Now()
	if err := r.Stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
	if took := time.Since(begun); took > 25*time.Second { // the relay would give it 30
		t.Errorf("stopping took %s", took)
	}
	if n := lab.Count(w.Sink, "under way"); n != 1 {
		t.Errorf("arrived %d times when the relay had stopped", n)
	}
	r.Start(t)
	if s := r.Show(t, id).States(); s != "delivered" {
		t.Errorf("after the restart it is %s", s)
	}
	time.Sleep(time.Second)
	if n := lab.Count(w.Sink, "under way"); n != 1 {
		t.Errorf("arrived %d times", n)
	}
}

func TestE2EReadiness(t *testing.T) {
	t.Parallel()
	dir := lab.Dir(t)
	policies := filepath.Join(dir, "policies")
	lab.Write(t, policies, "a.rego", "package behalf.submission.message\n\nimport rego.v1\n")
	w := lab.NewWorld(t, nil, nil)
	r := start(t, w, "policy: { path: \""+policies+"\" }\n")
	if code, body := r.Ready(); code != http.StatusOK || !strings.Contains(body, `"ready":true`) {
		t.Errorf("%d %s", code, body)
	}
	lab.Write(t, policies, "a.rego", "package behalf.submission.message\n\ndeny contains {\n")
	lab.Until(t, soon, "/readyz to tell of the broken policy", func() bool {
		code, body := r.Ready()
		return code == http.StatusServiceUnavailable && strings.Contains(body, "policy") && strings.Contains(body, "a.rego")
	})
	// The last good set is in force.
	r.Reaches(t, send(t, r, "you@sink.test", "by the last good policy"), "delivered", soon)
	lab.Write(t, policies, "a.rego", `package behalf.submission.message

deny contains {"rule": "closed", "code": 550, "enhanced": "5.7.1", "reason": "closed for the night"} if {
	input.message.subject == "night"
}
`)
	lab.Until(t, soon, "/readyz to be well", func() bool { code, _ := r.Ready(); return code == http.StatusOK })
	if _, err := r.CLIAs(t, lab.AcmeSecret, "", binary(t), "send", "--from", acmeFrom, "--to", "you@sink.test", "--subject", "night", "--text", "x"); err == nil || !strings.Contains(err.Error(), "closed for the night") {
		t.Errorf("want the new policy's refusal, got %v", err)
	}
}

// The metrics are there by the names of the contract and count.
func TestE2EMetrics(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, choosy)
	r := start(t, w, "")
	r.Reaches(t, send(t, r, "you@sink.test", "counted"), "delivered", soon)
	r.Reaches(t, send(t, r, "nobody@sink.test", "counted too"), "failed", soon)
	if _, err := sendAs(t, r, "acme", "someone@else.test", "refused", "--header", "Behalf-Method: domain"); err == nil {
		t.Error("a From that is nobody's was taken")
	}
	text := r.Metrics(t)
	for _, want := range []string{
		"behalf_messages_accepted_total", `behalf_messages_rejected_total{`, `behalf_deliveries_total{`, `upstream="mx"`, "behalf_delivery_latency_seconds_bucket{", `le="180"`,
		`behalf_queue_messages{state="delivered"}`, "behalf_queue_oldest_seconds ", "behalf_policy_duration_seconds_bucket{", "behalf_policy_decisions_total{",
		"behalf_dkim_signatures_total", "behalf_upstream_connections", "go_goroutines ", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

// One platform credential speaks for many tenants, by every way to name one;
// a tenant's credential for no other.
func TestE2EWhoSpeaksForWhom(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, nil)
	r := w.Relay(t, lab.RelayOptions{Binary: binary(t), Resources: w.Tenants("[ { upstream: mx } ]") + moreTenants + identities() + `---
kind: credential
tenant: named
name: app
secret: named-secret-0123456789abcdefghijklmnopqrstuvwxyz
---
kind: credential
scope: platform
tenants: [visit]
name: few
secret: few-secret-0123456789abcdefghijklmnopqrstuvwxyz12
`})
	swaks := func(user, secret, from string, more ...string) (string, error) {
		return lab.Run(t, "", lab.Program(t, "swaks"), append([]string{"--server", r.Submission, "--tls", "--auth", "PLAIN", "--auth-user", user, "--auth-password", secret, "--from", from, "--to", "you@sink.test"}, more...)...)
	}
	for name, v := range map[string]struct {
		user, secret, from string
		more               []string
		tenant             string // "" means refused
	}{
		"by username":                         {"platform/app+acme", lab.PlatformSecret, acmeFrom, nil, "acme"},
		"by header":                           {"platform/app", lab.PlatformSecret, acmeFrom, []string{"--header", "Behalf-Tenant: acme"}, "acme"},
		"by nothing":                          {"platform/app", lab.PlatformSecret, acmeFrom, nil, ""},
		"not among its tenants":               {"platform/few+acme", "few-secret-0123456789abcdefghijklmnopqrstuvwxyz12", acmeFrom, nil, ""},
		"not among its tenants, by header":    {"platform/few", "few-secret-0123456789abcdefghijklmnopqrstuvwxyz12", acmeFrom, []string{"--header", "Behalf-Tenant: acme"}, ""},
		"a tenant names another by username":  {"named/app+acme", "named-secret-0123456789abcdefghijklmnopqrstuvwxyz", acmeFrom, nil, ""},
		"a tenant sends as another's address": {"named/app", "named-secret-0123456789abcdefghijklmnopqrstuvwxyz", acmeFrom, nil, ""},
		"a tenant names another by header":    {"named/app", "named-secret-0123456789abcdefghijklmnopqrstuvwxyz", "help@strict.test", []string{"--header", "Behalf-Tenant: acme"}, ""},
		"a tenant names itself by header":     {"named/app", "named-secret-0123456789abcdefghijklmnopqrstuvwxyz", "help@strict.test", []string{"--header", "Behalf-Tenant: named"}, "named"},
		"no such tenant":                      {"platform/app+ghost", lab.PlatformSecret, acmeFrom, nil, ""},
		"wrong secret":                        {"acme/app", lab.PlatformSecret, acmeFrom, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := swaks(v.user, v.secret, v.from, v.more...)
			if (err == nil) != (v.tenant != "") {
				t.Fatalf("accepted: %v, want %v\n%s", err == nil, v.tenant != "", out)
			}
			if v.tenant != "" {
				if m := r.Reaches(t, idIn(t, out), "delivered", soon); m.Tenant != v.tenant {
					t.Errorf("for tenant %s, want %s", m.Tenant, v.tenant)
				}
			}
		})
	}
	if lab.Count(w.Sink, "\nBehalf-") > 0 {
		t.Error("a hint left the relay")
	}
	// What another tenant has does not exist.
	id := send(t, r, "you@sink.test", "private")
	for _, path := range []string{"/v1/messages/" + id, "/v1/messages/" + id + "/raw", "/v1/messages/" + id + "/events", "/v1/tenants/acme", "/v1/domains/acme.test"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.HTTP+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer named-secret-0123456789abcdefghijklmnopqrstuvwxyz")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s answered %d to another tenant", path, resp.StatusCode)
		}
	}
}

// One credential of the platform submits for a thousand tenants, over one
// session and over HTTP, and each message belongs to the tenant that was named.
func TestE2EThousandTenants(t *testing.T) {
	t.Parallel()
	const tenants = 1000
	w := lab.NewWorld(t, nil, nil)
	var resources strings.Builder
	resources.WriteString(w.Tenants("[ { upstream: mx } ]"))
	for i := range tenants {
		fmt.Fprintf(&resources, "---\nkind: tenant\nname: t%d\nmethods: [name]\nroute: [ { upstream: mx } ]\n", i)
	}
	r := w.Relay(t, lab.RelayOptions{Binary: binary(t), Resources: resources.String()})
	c := loginAs(t, r, lab.PlatformUser, lab.PlatformSecret)
	for i := range tenants {
		submit(t, c, fmt.Sprintf("t%d@customer.test", i), "you@sink.test", fmt.Sprintf("Behalf-Tenant: t%d\r\n", i), fmt.Sprintf("for tenant %d.", i))
	}
	lab.Until(t, time.Minute, "all messages to arrive", func() bool { return len(w.Sink.Messages()) >= tenants })
	for _, i := range []int{0, 1, 17, 500, tenants - 1} {
		ms := r.Find(t, "--tenant", fmt.Sprintf("t%d", i))
		if len(ms) != 1 || ms[0].Subject != fmt.Sprintf("for tenant %d.", i) {
			t.Errorf("tenant %d has %d messages", i, len(ms))
		}
		got := lab.Arrived(t, w.Sink, fmt.Sprintf("Subject: for tenant %d.", i))
		if from := field(got.Data, "From"); !strings.Contains(from, fmt.Sprintf(".t%d@send.platform.test", i)) && !strings.Contains(from, fmt.Sprintf("<t%d", i)) {
			t.Errorf("tenant %d sent as %s", i, from)
		}
	}
}

// submit sends one message over an open session.
func submit(t *testing.T, c *smtp.Client, from, to, hints, subject string) {
	t.Helper()
	if err := c.Mail(from); err != nil {
		t.Fatal(err)
	}
	if err := c.Rcpt(to); err != nil {
		t.Fatal(err)
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(hints + message(from, to, subject))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// Every list can be had in every form.
func TestE2EOutputFormats(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, nil)
	r := start(t, w, "")
	r.Reaches(t, send(t, r, "you@sink.test", "listed"), "delivered", soon)
	for _, list := range [][]string{{"message", "list"}, {"queue", "list"}, {"get", "tenant"}, {"get", "credential"}, {"get", "domain"}, {"get", "identity"}, {"tenant", "list"}, {"domain", "records", "acme.test"}} {
		for _, format := range []string{"table", "json", "jsonl", "yaml"} {
			out := r.MustCLI(t, append(append([]string{}, list...), "-o", format)...)
			if format == "json" && !json.Valid([]byte(out)) {
				t.Errorf("%v -o json is not JSON: %s", list, out)
			}
			if strings.Contains(out, lab.AcmeSecret) {
				t.Errorf("%v -o %s shows a secret", list, format)
			}
		}
		if out, err := r.CLI(t, "", append(append([]string{}, list...), "-o", "xml")...); err == nil || !strings.Contains(err.Error(), "exit status 2") {
			t.Errorf("%v -o xml: %s, %v, want wrong usage", list, out, err)
		}
	}
	// Applying twice changes nothing.
	out := r.MustCLI(t, "apply", "-f", filepath.Join(r.Dir, "resources.yaml"))
	if strings.Contains(out, "created") || strings.Contains(out, "updated") {
		t.Errorf("the second apply changed something:\n%s", out)
	}
}

// login opens a session as tenant acme.
func login(t *testing.T, r *lab.Relay) *smtp.Client {
	t.Helper()
	return loginAs(t, r, lab.AcmeUser, lab.AcmeSecret)
}

func loginAs(t *testing.T, r *lab.Relay, user, secret string) *smtp.Client {
	t.Helper()
	c, err := smtp.Dial(r.Submission)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil { // who it is, is not the point here
		t.Fatal(err)
	}
	if err := c.Auth(smtp.PlainAuth("", user, secret, r.Host)); err != nil {
		t.Fatal(err)
	}
	return c
}

// The disk is full: the door says so before anything is taken, and takes mail
// again when there is room.
func TestE2EDiskFull(t *testing.T) {
	t.Parallel()
	lab.Root(t)
	dir := lab.Tmpfs(t, 512)
	w := lab.NewWorld(t, nil, nil)
	r := w.Relay(t, lab.RelayOptions{Binary: binary(t), Dir: dir})
	r.Reaches(t, send(t, r, "you@sink.test", "before"), "delivered", soon)
	open := login(t, r) // a session from before

	fill := filepath.Join(dir, "ballast")
	lab.Fill(t, fill, dir)
	lab.Until(t, soon, "/readyz to tell of the disk", func() bool {
		code, body := r.Ready()
		return code == http.StatusServiceUnavailable && strings.Contains(body, "disk")
	})
	if err := open.Mail(acmeFrom); err == nil || !strings.Contains(err.Error(), `452 "4.3.1`) {
		t.Errorf("an open session got %v, want 452 4.3.1", err)
	}
	if _, err := smtp.Dial(r.Submission); err == nil || !strings.Contains(err.Error(), `421 "4.3.1`) {
		t.Errorf("a new session got %v, want 421 4.3.1", err)
	}
	if _, err := r.CLIAs(t, lab.AcmeSecret, "", binary(t), "send", "--from", acmeFrom, "--to", "you@sink.test", "--text", "x"); err == nil {
		t.Error("the HTTP door took a message")
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, soon, "the relay to be ready again", func() bool { code, _ := r.Ready(); return code == http.StatusOK })
	r.Reaches(t, send(t, r, "you@sink.test", "after"), "delivered", soon)
	if !r.Running() {
		t.Error(fmt.Sprint("the relay ended: ", r.Log()))
	}
}
