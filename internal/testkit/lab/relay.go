package lab

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// RelayOptions say how the relay is set up.
type RelayOptions struct {
	Binary    string   // the program
	DNS       string   // host:port of its resolver
	MXPort    int      // of all exchangers
	Config    string   // more configuration, in YAML
	Resources string   // applied at start, in YAML
	Dir       string   // where its data is; default a folder of its own
	Wrap      []string // a command before the program's, such as strace's
	Keys      *DKIM    // of the sending domain, send.platform.test
	LogLevel  string   // default debug
}

// Relay is the relay as its users run it.
type Relay struct {
	*Process
	Dir         string
	Submission  string // host:port, STARTTLS
	Submissions string // host:port, TLS
	HTTP        string // URL
	Host        string // address of all doors
	CAFile      string // trusts its certificate, which is for relay.platform.test and Host

	o    RelayOptions
	conf string
}

// StartRelay runs a relay named relay.platform.test.
func StartRelay(t testing.TB, o RelayOptions) *Relay {
	t.Helper()
	r := &Relay{o: o, Dir: o.Dir, Host: "127.0.0.1"}
	if r.Dir == "" {
		r.Dir = Dir(t)
	}
	ports := [3]int{Port(t), Port(t), Port(t)}
	r.Submission, r.Submissions, r.HTTP = Addr(r.Host, ports[0]), Addr(r.Host, ports[1]), "http://"+Addr(r.Host, ports[2])
	cert := NewCertificate(t, "relay.platform.test", r.Host, "localhost")
	r.CAFile = cert.CertFile
	conf := fmt.Sprintf(`hostname: relay.platform.test
platform_domain: platform.test
public_url: http://relay.platform.test
data: data
listen: { submission: "%s", submissions: "%s", http: "%s" }
tls: { cert: "%s", key: "%s" }
egress: { allow: [127.0.0.0/8] }
`, r.Submission, r.Submissions, strings.TrimPrefix(r.HTTP, "http://"), cert.CertFile, cert.KeyFile)
	if o.DNS != "" {
		conf += fmt.Sprintf("resolver: { servers: [\"%s\"], timeout: 2s }\n", o.DNS)
	}
	if o.MXPort != 0 {
		conf += fmt.Sprintf("mx: { port: %d, spf: \"ip4:127.0.0.1\" }\n", o.MXPort)
	}
	if o.Keys != nil {
		conf += fmt.Sprintf("platform: { name: Platform, notify: ops@platform.test, dkim: [ { selector: b1, algorithm: rsa-2048, key: \"file:%s\" }, { selector: b2, algorithm: ed25519, key: \"file:%s\" } ] }\n", o.Keys.RSAFile, o.Keys.EdFile)
	}
	r.conf = Write(t, r.Dir, "behalf.yaml", conf+o.Config)
	Write(t, r.Dir, "resources.yaml", o.Resources)
	r.Start(t)
	return r
}

// Start runs the program, after Stop or Kill with the same data, and waits
// until it is ready.
func (r *Relay) Start(t testing.TB) {
	t.Helper()
	r.Launch(t)
	Until(t, patience, "the relay to be ready", func() bool {
		if !r.Running() {
			t.Fatalf("the relay ended: %v\n%s", r.err, r.Log())
		}
		code, _ := r.Ready()
		return code == http.StatusOK
	})
}

// Launch runs the program and does not wait.
func (r *Relay) Launch(t testing.TB) {
	t.Helper()
	args := append(append([]string{}, r.o.Wrap...), r.o.Binary, "serve", "--config", r.conf)
	if r.o.Resources != "" {
		args = append(args, "--apply", filepath.Join(r.Dir, "resources.yaml"))
	}
	r.Process = Spawn(t, []string{"BEHALF_LOG_LEVEL=" + cmp.Or(r.o.LogLevel, "debug")}, args[0], args[1:]...)
}

// Ready asks /readyz; without an answer the code is 0.
func (r *Relay) Ready() (code int, body string) { return r.get("/readyz") }

// Metrics is what Prometheus would scrape.
func (r *Relay) Metrics(t testing.TB) string {
	t.Helper()
	code, body := r.get("/metrics")
	if code != http.StatusOK {
		t.Fatalf("/metrics answered %d", code)
	}
	return body
}

func (r *Relay) get(path string) (int, string) {
	resp, err := (&http.Client{Timeout: patience / 3}).Get(r.HTTP + path)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body) // what came is what it said
	return resp.StatusCode, string(b)
}

// AdminKey is the key that the relay made at its first start.
func (r *Relay) AdminKey(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(r.Dir, "data", "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// CLI runs the program as an administrator's command.
func (r *Relay) CLI(t testing.TB, input string, args ...string) (string, error) {
	t.Helper()
	return r.CLIAs(t, r.AdminKey(t), input, r.o.Binary, args...)
}

// CLIAs runs the program, by any of its names, with the key of somebody.
func (r *Relay) CLIAs(t testing.TB, key, input, program string, args ...string) (string, error) {
	t.Helper()
	return run(t, []string{"BEHALF_SERVER=" + r.HTTP, "BEHALF_KEY=" + key}, input, program, args...)
}

// MustCLI is CLI for commands that must succeed.
func (r *Relay) MustCLI(t testing.TB, args ...string) string {
	t.Helper()
	out, err := r.CLI(t, "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Message is what the API tells of one message.
type Message struct {
	ID, Tenant, Door, From, Subject string
	MailFrom                        string `json:"mail_from"`
	Recipients                      []struct {
		Address, State, Upstream, Reason string
		Tries                            int
	}
	Events []json.RawMessage
}

// States are the states of a message's recipients, in order.
func (m *Message) States() string {
	var s []string
	for _, r := range m.Recipients {
		s = append(s, r.State)
	}
	return strings.Join(s, " ")
}

// Show asks for a message.
func (r *Relay) Show(t testing.TB, id string) *Message {
	t.Helper()
	var m Message
	out := r.MustCLI(t, "message", "show", id, "-o", "json")
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return &m
}

// Find lists the messages that a command's flags select, newest first.
func (r *Relay) Find(t testing.TB, flags ...string) []*Message {
	t.Helper()
	out := r.MustCLI(t, append([]string{"message", "list", "-o", "jsonl"}, flags...)...)
	var ms []*Message
	for line := range strings.Lines(out) {
		var m Message
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		ms = append(ms, &m)
	}
	return ms
}

// Reaches waits until all recipients of a message are in a state; otherwise
// the message's trace is shown.
func (r *Relay) Reaches(t testing.TB, id, state string, atMost time.Duration) *Message {
	t.Helper()
	var m *Message
	for end := time.Now().Add(atMost); ; time.Sleep(50 * time.Millisecond) {
		m = r.Show(t, id)
		if strings.ReplaceAll(m.States(), state, "") == strings.Repeat(" ", len(m.Recipients)-1) {
			return m
		}
		if time.Now().After(end) {
			t.Fatalf("message %s is %s, not %s, after %s\n%s", id, m.States(), state, atMost, r.MustCLI(t, "message", "trace", id))
		}
	}
}
