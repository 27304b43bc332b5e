package main_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"behalf/internal/testkit/lab"
)

// The end-to-end tests run the real program as a child among other people's
// clients, servers and verifiers. internal/testkit/lab starts those.

var (
	buildOnce sync.Once
	binDir    string
	buildErr  error
)

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if binDir != "" {
		os.RemoveAll(binDir)
	}
	os.Exit(code)
}

// binary is the program that E2E_BEHALF names, with sendmail and behalf-rsa beside
// it, or one that is built here once.
func binary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("E2E_BEHALF"); path != "" {
		return path
	}
	buildOnce.Do(func() {
		if binDir, buildErr = os.MkdirTemp("", "behalf-bin-"); buildErr != nil {
			return
		}
		cmd := exec.Command("go", "build", "-o", binDir, ".", "../behalf-rsa")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			buildErr = fmt.Errorf("building the program: %w\n%s", err, out)
			return
		}
		buildErr = os.Symlink("behalf", filepath.Join(binDir, "sendmail"))
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return filepath.Join(binDir, "behalf")
}

// start runs a relay in a world, on the way by MX, with more configuration.
func start(t testing.TB, w *lab.World, config string) *lab.Relay {
	t.Helper()
	return w.Relay(t, lab.RelayOptions{Binary: binary(t), Config: config})
}

var queuedAs = regexp.MustCompile(`queued as ([A-Za-z0-9_-]+)`)

// idIn finds the message's id in what a client printed.
func idIn(t testing.TB, out string) string {
	t.Helper()
	m := queuedAs.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no \"queued as\" in %s", out)
	}
	return m[1]
}

// message is a small one with CR LF.
func message(from, to, subject string) string {
	return strings.ReplaceAll(fmt.Sprintf("From: %s\nTo: %s\nSubject: %s\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\nGood day,\n\nyour ticket was answered.\n.\n..dots\n", from, to, subject), "\n", "\r\n")
}

// send submits a message by the command line and gives its id.
func send(t testing.TB, r *lab.Relay, to, subject string, args ...string) string {
	t.Helper()
	args = append([]string{"send", "--from", "Acme Support <support@acme.test>", "--to", to, "--subject", subject, "--text", "Good day"}, args...)
	out, err := r.CLIAs(t, lab.AcmeSecret, "", binary(t), args...)
	if err != nil {
		t.Fatal(err)
	}
	return idIn(t, out)
}

// soon is how long anything may take on a machine that is busy with other tests.
const soon = time.Minute
