package main_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"behalf/internal/testkit/lab"
)

// The worked example shows each message from both sides, and the lines that it
// prints work as they are.
func TestE2EExample(t *testing.T) {
	t.Parallel()
	addr := func() string { return lab.Addr("127.0.0.1", lab.Port(t)) }
	p := lab.Spawn(t, []string{"BEHALF=" + binary(t), "EXAMPLE_DNS=" + addr(), "EXAMPLE_MX=" + addr(),
		"BEHALF_LISTEN_SUBMISSION=" + addr(), "BEHALF_LISTEN_SUBMISSIONS=" + addr(), "BEHALF_LISTEN_HTTP=" + addr(), "BEHALF_LISTEN_METRICS=" + addr()},
		filepath.Join(lab.Top(t), "scripts/run-example"))
	lab.Until(t, 2*time.Minute, "the example to be up", func() bool {
		if !p.Running() {
			t.Fatal("the example ended")
		}
		return strings.Contains(p.Log(), "Ctrl-C")
	})
	told := p.Log()
	for _, want := range []string{
		"->  domain through mx", "DMARC      pass  acme.test is aligned by DKIM and SPF, p=reject", "DKIM       pass  d=acme.test s=b2 a=ed25519-sha256",
		"->  address through mx", "Sender     ",
		"->  name through mx", "Chess Club via Platform <", "DMARC      pass  send.platform.test is aligned by DKIM and SPF, p=reject",
		"/docs", "/metrics",
	} {
		if !strings.Contains(told, want) {
			t.Errorf("the example does not show %q", want)
		}
	}
	for _, program := range []string{"swaks", "curl"} {
		lab.Program(t, program)
		_, line, ok := strings.Cut(told, "\n  "+program+" ")
		if !ok {
			t.Fatalf("no line for %s", program)
		}
		line, _, _ = strings.Cut(line, "\n")
		lab.MustRun(t, "", "bash", "-c", program+" "+line)
		lab.Until(t, soon, "the receiver to show the mail of "+program, func() bool {
			return strings.Contains(p.Log(), "Subject    hello from "+program)
		})
	}
	line := func(begin string) string {
		_, rest, _ := strings.Cut(told, begin)
		rest, _, _ = strings.Cut(rest, "\n")
		return strings.TrimSpace(rest)
	}
	for _, what := range []string{"\n  API ", "\n  metrics "} {
		lab.MustRun(t, "", lab.Program(t, "curl"), "-sS", "--fail", "-o", "/dev/null", line(what))
	}
	lab.MustRun(t, "", "bash", "-c", "curl "+strings.Replace(line("\n  curl "), "you@", "nobody@", 1))
	lab.Until(t, soon, "the report", func() bool { return strings.Contains(p.Log(), "MAILER-DAEMON@platform.test") })
	if err := p.Stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
}
