package main

import (
	"bytes"
	"context"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"behalf/internal/config"
)

var updateGolden = flag.Bool("update", false, "write the golden files of this package")

// desk is a running relay in development mode and a terminal in front of it.
type desk struct {
	t   testing.TB
	url string
	key string
	dir string
}

// newDesk starts a relay that keeps all mail, until the test ends.
func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, dir: t.TempDir()}
	t.Chdir(d.dir)
	cfg, err := config.Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listen = config.Listen{HTTP: config.Addrs{"127.0.0.1:0"}, Metrics: config.Addrs{"127.0.0.1:0"}}
	cfg.Resolver.Servers = []string{"127.0.0.1:1"} // nobody there: the world has no names
	s, err := newServer(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	d.url, d.key = "http://"+s.http[0].listener.Addr().String(), s.adminKey
	for _, name := range []string{"BEHALF_SERVER", "BEHALF_KEY", "BEHALF_TENANT"} {
		t.Setenv(name, "")
	}
	return d
}

// result is what a command did.
type result struct {
	code     int
	out, err string
}

func exec(t testing.TB, root *cobra.Command, stdin string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetArgs(append([]string{}, args...)) // nil would be those of the test
	code := run(t.Context(), root)
	return result{code, out.String(), errs.String()}
}

// behalf runs a command as the admin, with nothing on its standard input.
func (d *desk) behalf(args ...string) result {
	d.t.Helper()
	return exec(d.t, rootCommand(), "", d.with(args)...)
}

// with adds where the server is to commands that talk to one.
func (d *desk) with(args []string) []string {
	switch args[0] {
	case "version", "config", "policy", "help", "completion", "__complete", "serve", "frobnicate":
		return args
	}
	return append(args, "--server", d.url, "--key", d.key)
}

// ok runs a command that must do its work, and gives its output.
func (d *desk) ok(args ...string) string {
	d.t.Helper()
	r := d.behalf(args...)
	if r.code != 0 || r.err != "" {
		d.t.Fatalf("behalf %s: exit %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

func (d *desk) write(name, text string) string {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return path
}

const acme = `# one customer
kind: tenant
name: acme
display_name: Acme
labels: { plan: pro }
allow_from_change: true
---
kind: credential
tenant: acme
name: app
secret: env:ACME_APP_SECRET
---
kind: credential
tenant: acme
name: generated
---
kind: domain
tenant: acme
name: acme.example
verified: true
dkim: [ { selector: b2, algorithm: ed25519 } ]
---
kind: identity
tenant: acme
address: support@acme.example
verified: true
---
kind: connection
tenant: acme
name: office
provider: smtp
senders: [support@acme.example]
smtp: { host: smtp.acme.example, username: u, password: file:office.password }
`

// acmeDesk is a desk with the tenant of acme.
func acmeDesk(t *testing.T) *desk {
	t.Helper()
	d := newDesk(t)
	t.Setenv("ACME_APP_SECRET", "acme-app-secret")
	d.write("office.password", "office-secret\n")
	d.ok("apply", "-f", d.write("acme.yaml", acme))
	return d
}

func TestApply(t *testing.T) {
	d := newDesk(t)
	t.Setenv("ACME_APP_SECRET", "acme-app-secret")
	d.write("conf/office.password", "office-secret\n")
	file := d.write("conf/acme.yaml", acme)
	first := d.ok("apply", "-f", file)
	if strings.Count(first, " created\n") != 6 || strings.Count(first, "shown only now") != 1 || strings.Contains(first, "acme-app-secret") || strings.Contains(first, "office-secret") {
		t.Errorf("%s", first)
	}
	secret := regexp.MustCompile(`secret +(bhf_\S+)`).FindStringSubmatch(first)
	if secret == nil {
		t.Fatalf("no generated secret: %s", first)
	}
	again := d.ok("apply", "-f", filepath.Dir(file))
	if strings.Count(again, " unchanged\n") != 6 || strings.Contains(again, "bhf_") {
		t.Errorf("applied twice: %s", again)
	}
	for _, key := range []string{"acme-app-secret", secret[1]} {
		r := exec(t, rootCommand(), "", "get", "tenant", "--server", d.url, "--key", key)
		if r.code != 0 || !strings.Contains(r.out, "acme") {
			t.Errorf("the applied secret does not work: %+v", r)
		}
	}
	r := exec(t, rootCommand(), strings.Replace(acme, "plan: pro", "plan: free", 1), "apply", "-f", "-", "--server", d.url, "--key", d.key)
	if !strings.Contains(r.err+r.out, "office.password") || r.code != exitFailed {
		t.Errorf("a relative path on the standard input is taken from here: %+v", r)
	}
	if r := exec(t, rootCommand(), "kind: tenant\nname: acme\n", "apply", "-f", "-", "--server", d.url, "--key", d.key); r.out != "tenant acme updated\n" {
		t.Errorf("%+v", r)
	}
}

// What is wrong with a file is told with its place.
func TestApplyErrors(t *testing.T) {
	d := newDesk(t)
	for _, c := range []struct{ name, text, line, want string }{
		{"no YAML", "kind: tenant\nname: [\n", "", "did not find"},
		{"an unknown kind", "kind: tenant\nname: a\n---\nkind: tennant\nname: b\n", ":4", "tennant"},
		{"an unknown field", "kind: tenant\nname: a\nlables: {}\n", ":1", "lables"},
		{"a bad name", "\n\nkind: tenant\nname: A B\n", ":3", "name"},
		{"no such tenant", "kind: identity\ntenant: nobody\naddress: a@b.example\n", ":1", "no such thing"},
		{"no such variable", "kind: credential\ntenant: a\nname: b\nsecret: env:BEHALF_TEST_NOT_SET\n", ":1", "BEHALF_TEST_NOT_SET"},
		{"no such file", "kind: credential\ntenant: a\nname: b\nsecret: file:nothing\n", ":1", "nothing"},
		{"a list", "- kind: tenant\n", ":1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.t = t
			file := d.write("bad.yaml", c.text)
			r := d.behalf("apply", "-f", file)
			if r.code == 0 || !strings.Contains(r.err, file+c.line) || !strings.Contains(r.err, c.want) || strings.Count(r.err, "\n") != 1 {
				t.Errorf("%+v", r)
			}
		})
	}
	for _, args := range [][]string{{"apply", "-f", "nowhere.yaml"}, {"apply", "-f", d.t.(*testing.T).TempDir()}} {
		if r := d.behalf(args...); r.code != exitFailed {
			t.Errorf("%q: %+v", args, r)
		}
	}
}

// Every list comes in every format.
func TestFormats(t *testing.T) {
	d := acmeDesk(t)
	d.ok("send", "--from", "support@acme.example", "--to", "guest@elsewhere.example", "--tenant", "acme", "--text", "x")
	d.ok("suppression", "add", "gone@elsewhere.example", "--tenant", "acme")
	for _, list := range [][]string{
		{"get", "tenant"}, {"get", "tenants"}, {"get", "credential"}, {"get", "domains"}, {"get", "identity"}, {"get", "connection"},
		{"tenant", "list"}, {"credential", "list"}, {"credential", "list", "--tenant", "acme"}, {"domain", "list"}, {"domain", "records", "acme.example"},
		{"message", "list"}, {"message", "list", "--tenant", "acme", "--limit", "0"}, {"queue", "list"}, {"suppression", "list", "--tenant", "acme"},
	} {
		table := d.ok(list...)
		head, _, _ := strings.Cut(table, "\n")
		if head == "" || head != strings.ToUpper(head) {
			t.Errorf("%q: a table without heads:\n%s", list, table)
		}
		if list[0] != "queue" && strings.Count(table, "\n") < 2 {
			t.Errorf("%q: an empty table:\n%s", list, table)
		}
		json := d.ok(append(list, "-o", "json")...)
		lines := d.ok(append(list, "-o", "jsonl")...)
		yaml := d.ok(append(list, "-o=yaml")...)
		if !strings.HasPrefix(json, "[") || !strings.HasSuffix(json, "]\n") {
			t.Errorf("%q: no JSON list: %s", list, json)
		}
		n := strings.Count(table, "\n") - 1
		if strings.Count(lines, "\n") != n || strings.Count(yaml, "---\n") != n {
			t.Errorf("%q: %d rows, %d lines, %d documents", list, n, strings.Count(lines, "\n"), strings.Count(yaml, "---\n"))
		}
		if strings.Contains(json, "office-secret") || strings.Contains(json, "acme-app-secret") || strings.Contains(json, "PRIVATE KEY") {
			t.Errorf("%q shows a secret", list)
		}
	}
	if zone := d.ok("domain", "records", "acme.example", "--zone"); !strings.Contains(zone, "b2._domainkey.acme.example.") {
		t.Errorf("%s", zone)
	}
	for _, one := range [][]string{{"get", "tenant", "acme"}, {"get", "credential", "acme/app"}, {"tenant", "show", "acme"}, {"domain", "show", "acme.example"}, {"get", "identity", "support@acme.example"}, {"queue", "stats"}} {
		if got := d.ok(one...); !strings.Contains(got, ": ") || strings.HasPrefix(got, "{") {
			t.Errorf("%q is not YAML: %s", one, got)
		}
		if got := d.ok(append(one, "-o", "json")...); !strings.HasPrefix(got, "{\n") {
			t.Errorf("%q is not JSON: %s", one, got)
		}
	}
	// What get prints can be applied again and changes nothing.
	for kind, name := range map[string]string{"tenant": "acme", "identity": "support@acme.example", "domain": "acme.example", "connection": "office", "credential": "acme/app"} {
		if got := d.ok("apply", "-f", d.write("again.yaml", d.ok("get", kind, name, "-o", "yaml"))); !strings.Contains(got, "unchanged") {
			t.Errorf("%s: %s", kind, got)
		}
	}
}

func TestExitCodes(t *testing.T) {
	d := newDesk(t)
	for _, c := range []struct {
		code int
		args string
		want string
	}{
		{exitUsage, "frobnicate", "unknown command"},
		{exitUsage, "tenant frobnicate", "unknown command"},
		{exitUsage, "message frobnicate", "unknown command"},
		{exitUsage, "policy frobnicate", "unknown command"},
		{exitUsage, "config frobnicate", "config"},
		{exitUsage, "get", "usage"},
		{exitUsage, "get planets", "not known"},
		{exitUsage, "get tenant a b", "usage"},
		{exitUsage, "get tenant --frobnicate", "unknown flag"},
		{exitUsage, "get tenant -o xml", "want table, json, jsonl, yaml"},
		{exitUsage, "message list --limit many", "limit"},
		{exitUsage, "message show", "usage"},
		{exitUsage, "delete tenant", "usage"},
		{exitUsage, "apply", "-f"},
		{exitUsage, "send --from a@b.example", "--to"},
		{exitUsage, "send --from a@b.example --to c@d.example --text x --header nonsense", "NAME:VALUE"},
		{exitUsage, "send --from a@b.example --to c@d.example --text x --at tomorrow", "--at"},
		{exitUsage, "queue hold", "--all"},
		{exitUsage, "queue hold ID --all", "either"},
		{exitUsage, "credential add app", "--tenant"},
		{exitUsage, "credential add app --tenant acme --platform", "either"},
		{exitUsage, "tenant suspend acme", "--reason"},
		{exitUsage, "tenant suspend acme --reason x --for ever", "duration"},
		{exitUsage, "policy eval", "--input"},
		{exitUsage, "version 2", "usage"},
		{exitUsage, "serve now", "usage"},
		{exitFailed, "get tenant nobody", "no such thing"},
		{exitFailed, "message show 000", "no such thing"},
		{exitFailed, "message trace nothing", "no such thing"},
		{exitFailed, "message raw nothing", "no such thing"},
		{exitFailed, "delete tenant nobody", "no such thing"},
		{exitFailed, "tenant suspend nobody --reason x", "no such thing"},
		{exitFailed, "queue hold 000", "no such thing"},
		{exitFailed, "message list --state lost", "state"},
		{exitFailed, "send --from a@b.example --to c@d.example --text x", "tenant"},
		{exitFailed, "suppression list", "tenant"},
		{exitFailed, "send --from a@b.example --to c@d.example --text x --attach nothing.pdf", "nothing.pdf"},
		{exitFailed, "config check --config nothing.yaml", "nothing.yaml"},
		{exitFailed, "policy check --path nothing", "nothing"},
		{exitFailed, "policy eval --input nothing.json", "nothing.json"},
	} {
		r := d.behalf(strings.Fields(c.args)...)
		if r.code != c.code || !strings.Contains(r.err, c.want) || !strings.HasPrefix(r.err, "behalf: ") {
			t.Errorf("behalf %s: exit %d, want %d\n%s%s", c.args, r.code, c.code, r.out, r.err)
		}
	}
	if r := exec(t, rootCommand(), "", "get", "tenant", "--server", "http://127.0.0.1:1", "--key", "x"); r.code != exitFailed || !strings.Contains(r.err, "is the server running") {
		t.Errorf("no server: %+v", r)
	}
	if r := exec(t, rootCommand(), "", "get", "tenant", "--server", d.url, "--key", "wrong"); r.code != exitFailed || !strings.Contains(r.err, "authentication failed") {
		t.Errorf("wrong key: %+v", r)
	}
	if r := exec(t, rootCommand(), "", "get", "tenant", "--server", d.url, "--key", "@nothing.key"); r.code != exitFailed || !strings.Contains(r.err, "nothing.key") {
		t.Errorf("no key file: %+v", r)
	}
	// The environment and the file of the data folder say the same as the flags.
	if r := exec(t, rootCommand(), "", "get", "tenant", "--server", strings.TrimPrefix(d.url, "http://")); r.code != 0 {
		t.Errorf("key file of ./data: %+v", r)
	}
	t.Setenv("BEHALF_SERVER", d.url)
	t.Setenv("BEHALF_KEY", "@"+d.write("key", d.key+"\n"))
	if r := exec(t, rootCommand(), "", "get", "tenant"); r.code != 0 {
		t.Errorf("environment: %+v", r)
	}
}

func TestTenantsAndCredentials(t *testing.T) {
	d := newDesk(t)
	if got := d.ok("tenant", "add", "acme", "--label", "plan=pro", "--notify", "ops@acme.example", "--display-name", "Acme"); got != "acme created\n" {
		t.Errorf("%s", got)
	}
	if got := d.ok("tenant", "add", "acme", "--label", "region=eu"); got != "acme updated\n" {
		t.Errorf("%s", got)
	}
	shown := d.ok("tenant", "show", "acme")
	for _, want := range []string{"plan: pro", "region: eu", "notify: ops@acme.example", "display_name: Acme"} {
		if !strings.Contains(shown, want) {
			t.Errorf("no %q in %s", want, shown)
		}
	}
	d.ok("tenant", "suspend", "acme", "--reason", "unpaid", "--for", "24h")
	if shown = d.ok("tenant", "show", "acme"); !strings.Contains(shown, "reason: unpaid") || !strings.Contains(shown, "until: ") {
		t.Errorf("%s", shown)
	}
	d.ok("tenant", "resume", "acme")
	if shown = d.ok("tenant", "show", "acme"); strings.Contains(shown, "unpaid") {
		t.Errorf("%s", shown)
	}
	if got := d.ok("credential", "add", "app", "--tenant", "acme", "--network", "127.0.0.0/8", "--expires", "720h"); !strings.Contains(got, "username acme/app") {
		t.Errorf("%s", got)
	}
	if got := d.ok("credential", "add", "all", "--platform"); !strings.Contains(got, "username platform/all") {
		t.Errorf("%s", got)
	}
	if got := d.ok("credential", "show", "platform/all"); !strings.Contains(got, "- '*'") && !strings.Contains(got, `- "*"`) {
		t.Errorf("%s", got)
	}
	d.ok("credential", "delete", "acme/app")
	d.ok("credential", "delete", "platform/all")
	d.ok("tenant", "delete", "acme")
	if got := d.ok("get", "tenant", "-o", "jsonl"); got != "" {
		t.Errorf("%s", got)
	}
}

// queued is the id in what send prints.
func queued(t testing.TB, out string) string {
	t.Helper()
	id, ok := strings.CutPrefix(strings.TrimSpace(out), "queued as ")
	if !ok {
		t.Fatalf("not queued: %s", out)
	}
	return id
}

// delivered waits until a message has been delivered.
func (d *desk) delivered(id string) {
	d.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if strings.Contains(d.ok("message", "show", id, "-o", "jsonl"), `"state":"delivered"`) {
			return
		}
	}
	d.t.Fatal(d.ok("message", "trace", id))
}

func TestSendAndTrace(t *testing.T) {
	d := acmeDesk(t)
	id := queued(t, d.ok("send", "--from", "Support <support@acme.example>", "--to", "guest@elsewhere.example", "--cc", "b@elsewhere.example", "--bcc", "c@elsewhere.example",
		"--subject", "Your ticket", "--text", "hello", "--html", "<p>hello", "--attach", d.write("notes.txt", "some notes"), "--header", "X-Ticket: 17",
		"--tenant", "acme", "--stream", "tickets", "--tag", "t17"))
	d.delivered(id)
	raw := d.ok("message", "raw", id)
	for _, want := range []string{"X-Ticket: 17", "notes.txt", "c29tZSBub3Rlcw==", "<p>hello"} {
		if !strings.Contains(raw, want) {
			t.Errorf("no %q in %s", want, raw)
		}
	}
	one := queued(t, d.ok("send", "--from", "support@acme.example", "--to", "guest@elsewhere.example", "--subject", "Your ticket", "--text", "hello", "--tenant", "acme"))
	d.delivered(one)
	golden(t, "trace.txt", normalised(d.ok("message", "trace", one), one))
	if got := d.ok("message", "trace", id, "-o", "json"); !strings.Contains(got, `"events"`) {
		t.Errorf("%s", got)
	}
	// What strangers write moves no cursor.
	t.Setenv("BEHALF_TENANT", "acme")
	msg := "From: support@acme.example\nTo: guest@elsewhere.example\nSubject: =?utf-8?q?=1B[31mred=0Dgone?=\n\nx\n"
	if r := exec(t, sendmailCommand(), msg, "-t", "--server", d.url, "--key", d.key); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	red := regexp.MustCompile(`"id":"(\w+)"`).FindStringSubmatch(d.ok("message", "list", "--limit", "1", "-o", "jsonl"))[1]
	for _, text := range []string{d.ok("message", "list"), d.ok("message", "trace", red), d.ok("message", "show", red), d.ok("get", "tenants", "-o", "yaml")} {
		if strings.ContainsAny(text, "\x1b\r") {
			t.Errorf("a subject reaches the terminal with its escapes: %q", text)
		}
	}
	// The text may come on the standard input, and the same key is sent once.
	args := d.with([]string{"send", "--from", "support@acme.example", "--to", "guest@elsewhere.example", "--tenant", "acme", "--idempotency-key", "k1"})
	first, again := exec(t, rootCommand(), "from a pipe\n", args...), exec(t, rootCommand(), "from a pipe\n", args...)
	if first.code != 0 || first.out != again.out {
		t.Errorf("%+v %+v", first, again)
	}
	if !strings.Contains(d.ok("message", "raw", queued(t, first.out)), "from a pipe") {
		t.Error("the text did not arrive")
	}
}

// normalised takes out of a trace what differs from run to run.
func normalised(trace, id string) string {
	for _, r := range []struct{ pattern, with string }{
		{`b-[0-9a-v]+@`, "b-TOKEN@"},
		{id, "ID"},
		{`(?m)^\d\d:\d\d:\d\d\.\d{3}`, "TIME"},
		{`Message-ID \S+, \d+ octets`, "Message-ID MID, N octets"},
		{`\(127\.0\.0\.1:\d+\)`, "(CLIENT)"},
		{`after \d+(\.\d+)?[mµn]?s`, "after T"},
		{`stored as \d+`, "stored as N"},
	} {
		trace = regexp.MustCompile(r.pattern).ReplaceAllString(trace, r.with)
	}
	return trace
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join(packageDir, "testdata", name)
	if *updateGolden {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != got {
		t.Errorf("%v; want\n%s\ngot\n%s", err, want, got)
	}
}

// packageDir is the folder of the tests, which a desk leaves.
var packageDir, _ = os.Getwd()

func TestOperationsOnTheQueue(t *testing.T) {
	d := acmeDesk(t)
	later := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	var ids []string
	for range 2 {
		ids = append(ids, queued(t, d.ok("send", "--from", "support@acme.example", "--to", "guest@elsewhere.example", "--tenant", "acme", "--text", "x", "--tag", "late", "--at", later)))
	}
	for _, c := range []struct{ args, want string }{
		{"queue hold " + ids[0] + " --reason odd --release-at " + later, "hold: 1 recipients changed\n"},
		{"queue hold --tag late", "hold: 1 recipients changed\n"},
		{"queue release " + ids[0] + " " + ids[1], "release: 2 recipients changed\n"},
		{"queue hold --tenant acme", "hold: 2 recipients changed\n"},
		{"queue release --all", "release: 2 recipients changed\n"},
		{"queue cancel --from support@acme.example --reason spring", "cancel: 2 recipients changed\n"},
		{"queue retry --all", "retry: 0 recipients changed\n"},
	} {
		if got := d.ok(strings.Fields(c.args)...); got != c.want {
			t.Errorf("%s: %s", c.args, got)
		}
	}
	// What names something and finds nothing is no success.
	for args, want := range map[string]string{
		"queue release --rule nope":                         "release: no recipient that it could change matches --rule nope",
		"queue cancel --credential acme/nope --tenant acme": "matches --credential acme/nope --tenant acme",
		"tenant cancel acme --credential acme/nope":         "cancel: nothing of acme/nope is held as unusual in tenant acme",
	} {
		if r := d.behalf(strings.Fields(args)...); r.code != exitFailed || r.out != "" || !strings.Contains(r.err, want) {
			t.Errorf("%s: exit %d, %q, %q", args, r.code, r.out, r.err)
		}
	}
	if got := d.ok("tenant", "cancel", "acme"); got != "cancel: 0 recipients changed\n" {
		t.Errorf("%s", got)
	}
	if got := d.ok("message", "list", "--state", "cancelled", "-o", "jsonl"); strings.Count(got, "\n") != 2 {
		t.Errorf("%s", got)
	}
	if got := d.ok("queue", "stats"); !strings.Contains(got, "cancelled: 2") {
		t.Errorf("%s", got)
	}
}

func TestSuppression(t *testing.T) {
	d := acmeDesk(t)
	d.ok("suppression", "add", "gone@elsewhere.example", "--tenant", "acme", "--stream", "news")
	if got := d.ok("suppression", "list", "--tenant", "acme"); !strings.Contains(got, "gone@elsewhere.example") || !strings.Contains(got, "news") {
		t.Errorf("%s", got)
	}
	d.ok("suppression", "remove", "gone@elsewhere.example", "--tenant", "acme", "--stream", "news")
	if got := d.ok("suppression", "list", "--tenant", "acme", "-o", "jsonl"); got != "" {
		t.Errorf("%s", got)
	}
}

// By the name sendmail the program does what other programs expect of that.
func TestSendmail(t *testing.T) {
	d := acmeDesk(t)
	t.Setenv("BEHALF_SERVER", d.url)
	t.Setenv("BEHALF_KEY", "acme-app-secret")
	const msg = "From: support@acme.example\nTo: Guest <guest@elsewhere.example>, b@elsewhere.example\nBcc: c@elsewhere.example\nSubject: %s\n\nfirst\n.\nlast\n"
	sendmail := func(subject string, args ...string) result {
		return exec(t, commandNamed("/usr/sbin/sendmail"), strings.Replace(msg, "%s", subject, 1), args...)
	}
	for _, c := range []struct {
		args      string
		to        int
		from      string
		dots, bad bool
	}{
		{args: "-t -i", to: 3, from: "support@acme.example", dots: true},
		{args: "-ti", to: 3, from: "support@acme.example", dots: true},
		{args: "-t -oi -f bounces@acme.example", to: 3, from: "bounces@acme.example", dots: true},
		{args: "-oi -oem -fbounces@acme.example guest@elsewhere.example", to: 1, from: "bounces@acme.example", dots: true},
		{args: "-bm -r bounces@acme.example guest@elsewhere.example", to: 1, from: "bounces@acme.example"},
		{args: "-i -f <> guest@elsewhere.example", to: 1, from: "", dots: true},
		{args: "-F Name -v guest@elsewhere.example", to: 1, from: "support@acme.example"},
		{args: "-i -- guest@elsewhere.example d@elsewhere.example", to: 2, from: "support@acme.example", dots: true},
		{args: "-i", bad: true},
		{args: "-bs guest@elsewhere.example", bad: true},
		{args: "-Z guest@elsewhere.example", bad: true},
	} {
		t.Run(c.args, func(t *testing.T) {
			d.t = t
			r := sendmail(c.args, strings.Fields(c.args)...)
			if c.bad {
				if r.code != exitUsage || !strings.HasPrefix(r.err, "sendmail: ") {
					t.Errorf("%+v", r)
				}
				return
			}
			if r != (result{}) {
				t.Fatalf("not silent: %+v", r)
			}
			got := d.ok("message", "list", "--limit", "1", "-o", "jsonl")
			if strings.Count(got, `"address"`) != c.to || !strings.Contains(got, `"mail_from":"`+c.from+`"`) {
				t.Errorf("%s", got)
			}
			id := regexp.MustCompile(`"id":"(\w+)"`).FindStringSubmatch(got)[1]
			if raw := d.ok("message", "raw", id); strings.Contains(raw, "last") != c.dots {
				t.Errorf("%s", raw)
			}
		})
	}
	if r := sendmail("x", "-i", "-f", "someone@stranger.example", "not-an-address"); r.code != exitFailed {
		t.Errorf("%+v", r)
	}
}

// Every command explains itself, and says what it is for in a line.
func TestHelp(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: %q is no summary", c.CommandPath(), c.Short)
		}
		if !c.HasSubCommands() && c.RunE == nil && c.Run == nil {
			t.Errorf("%s does nothing", c.CommandPath())
		}
		for _, below := range c.Commands() {
			walk(below)
		}
		var out bytes.Buffer
		c.SetOut(&out)
		if err := c.Help(); err != nil || !strings.Contains(out.String(), "Usage:") {
			t.Errorf("%s --help: %v %s", c.CommandPath(), err, out.String())
		}
	}
	walk(rootCommand())
	walk(sendmailCommand())
	names := exec(t, rootCommand(), "").out
	for _, want := range []string{"serve", "config", "apply", "get", "delete", "tenant", "credential", "domain", "send", "message", "queue", "policy", "suppression", "version", "completion"} {
		if !strings.Contains(names, "\n  "+want+" ") {
			t.Errorf("behalf does not list %s:\n%s", want, names)
		}
	}
}

func TestCompletions(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := exec(t, rootCommand(), "", "completion", shell); r.code != 0 || len(r.out) < 500 {
			t.Errorf("%s: %+v", shell, r)
		}
	}
	for args, want := range map[string]string{"get ": "identity", "get tenant -o ": "jsonl", "mess": "message", "queue re": "release"} {
		fields := strings.Split(args, " ")
		if r := exec(t, rootCommand(), "", append([]string{"__complete"}, fields...)...); !strings.Contains(r.out, want) {
			t.Errorf("%q: %+v", args, r)
		}
	}
}

func TestOffline(t *testing.T) {
	if r := exec(t, rootCommand(), "", "version"); r.code != 0 || !strings.HasPrefix(r.out, version+"\nRSA: Go (there is no /") || !strings.HasSuffix(r.out, "/behalf-rsa)\n") {
		t.Errorf("%+v", r)
	}
	if r := exec(t, rootCommand(), "", "config", "schema"); r.code != 0 || !strings.Contains(r.out, `"$schema"`) {
		t.Errorf("%+v", r)
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good := write("good.yaml", "hostname: relay.platform.example\nplatform_domain: platform.example\npublic_url: https://relay.platform.example\nlisten: { http: 127.0.0.1:8025 }\n")
	if r := exec(t, rootCommand(), "", "config", "check", "--config", good); r.code != 0 || r.out != "ok\n" {
		t.Errorf("%+v", r)
	}
	bad := write("bad.yaml", "hostname: relay.platform.example\nplatform_domain: platform.example\npublic_url: https://relay.platform.example\nlisten:\n  submision: 127.0.0.1:2587\n")
	if r := exec(t, rootCommand(), "", "config", "check", "--config", bad); r.code != exitFailed || !strings.Contains(r.err, bad+":5") || !strings.Contains(r.err, "submission") {
		t.Errorf("%+v", r)
	}
	if r := exec(t, rootCommand(), "", "policy", "check"); r.code != 0 || r.out != "ok\n" {
		t.Errorf("%+v", r)
	}
	if r := exec(t, rootCommand(), "", "policy", "test"); r.code != 0 || !strings.Contains(r.out, " passed, 0 failed") {
		t.Errorf("%+v", r)
	}
	input := `{"tenant":{"id":1,"name":"acme","suspended":{"reason":"unpaid"}}}`
	for _, args := range [][]string{{"policy", "eval", "--input", "-"}, {"policy", "eval", "--input", write("in.json", input)}, {"policy", "eval", "--package", "behalf.submission.sender", "--input", "-"}} {
		if r := exec(t, rootCommand(), input, args...); r.code != 0 || !strings.Contains(r.out, `"action": "deny"`) || !strings.Contains(r.out, "unpaid") {
			t.Errorf("%q: %+v", args, r)
		}
	}
	write("bad.rego", "package behalf.submission.sender\n\ndeny contains {\"rule\": \"x\", \"reason\": \"x\"} if input.tenant.nothing\n")
	if r := exec(t, rootCommand(), "", "policy", "check", "--path", dir); r.code != exitFailed || !strings.Contains(r.out, "bad.rego:3") || !strings.Contains(r.out, "nothing") {
		t.Errorf("%+v", r)
	}
}
