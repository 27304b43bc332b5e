package main_test

import (
	"debug/elf"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"behalf/internal/libcrypto"
	"behalf/internal/testkit/lab"
	"behalf/internal/testkit/need"
)

// TestE2ERSA: signatures verify whoever makes them: the host's OpenSSL in the
// program beside the relay, Go when that was killed, OpenSSL again, and Go in a
// relay that is alone.
func TestE2ERSA(t *testing.T) {
	t.Parallel()
	if _, err := libcrypto.Open(libcrypto.Soname); err != nil {
		need.Missing(t, "this host has no OpenSSL 3: ", err)
	}
	w := lab.NewWorld(t, nil, nil)
	relay := func(binary string) *lab.Relay {
		return w.Relay(t, lab.RelayOptions{Binary: binary, Resources: w.Tenants("[ { upstream: mx } ]")})
	}
	signed := func(r *lab.Relay, subject string) {
		t.Helper()
		id, err := sendAs(t, r, "acme", "support@acme.test", subject)
		if err != nil {
			t.Fatal(err)
		}
		r.Reaches(t, id, "delivered", soon)
		authentic(t, w, lab.Arrived(t, w.Sink, "Subject: "+subject), "acme.test", "bounce.acme.test")
	}
	logs := func(r *lab.Relay, line string, times int) {
		t.Helper()
		lab.Until(t, soon, line, func() bool { return strings.Count(r.Log(), line) == times })
	}
	const byOpenSSL, byGo = `level=INFO msg="RSA signatures" by="OpenSSL 3`, `msg="RSA signatures" by=Go`

	t.Run("with the program beside it", func(t *testing.T) {
		r := relay(binary(t))
		logs(r, byOpenSSL, 1)
		signed(r, "signed by OpenSSL")
		child := helperOf(t, r.PID())
		powerless(t, child)
		if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		logs(r, "level=WARN "+byGo, 1)
		signed(r, "signed while the program is away")
		logs(r, byOpenSSL, 2)
		child = helperOf(t, r.PID())
		signed(r, "signed by OpenSSL again")
		// Whoever stops all processes of the relay, as systemd does, stops the helper last.
		if err := syscall.Kill(child, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		signed(r, "signed after SIGTERM")
		if helperOf(t, r.PID()) != child {
			t.Error("SIGTERM ended the helper")
		}
		r.Kill()
		lab.Until(t, soon, "the helper to end with the relay", func() bool { return name(child) != "behalf-rsa" })
	})
	t.Run("alone", func(t *testing.T) {
		b, err := os.ReadFile(binary(t))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(lab.Dir(t), "behalf")
		if err := os.WriteFile(path, b, 0o755); err != nil {
			t.Fatal(err)
		}
		r := relay(path)
		logs(r, "level=INFO "+byGo, 1)
		signed(r, "signed by Go")
	})
}

// TestE2EStatic: the relay is complete by itself, whatever the helper is linked with.
func TestE2EStatic(t *testing.T) {
	t.Parallel()
	for path, static := range map[string]bool{binary(t): true, filepath.Join(filepath.Dir(binary(t)), "behalf-rsa"): false} {
		f, err := elf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if libs, err := f.ImportedLibraries(); (len(libs) == 0) != static {
			t.Errorf("%s is linked with %v, %v", path, libs, err)
		}
		f.Close()
	}
}

// powerless checks that no thread of a helper has rights, and that it is the
// first to go when memory is short.
func powerless(t testing.TB, pid int) {
	t.Helper()
	dir := "/proc/" + strconv.Itoa(pid)
	threads, err := filepath.Glob(dir + "/task/*/status")
	if err != nil || len(threads) < 2 {
		t.Fatal(threads, err)
	}
	for _, thread := range threads {
		b, _ := os.ReadFile(thread) // it may have ended
		for _, line := range []string{"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1"} {
			if len(b) > 0 && !strings.Contains(string(b), line+"\n") {
				t.Errorf("%s: no %s in\n%s", thread, line, b)
			}
		}
	}
	if b, err := os.ReadFile(dir + "/oom_score_adj"); err != nil || string(b) != "1000\n" {
		t.Errorf("oom_score_adj %q, %v", b, err)
	}
}

// helperOf is the behalf-rsa that a relay has started.
func helperOf(t testing.TB, relay int) (pid int) {
	t.Helper()
	lists, err := filepath.Glob("/proc/" + strconv.Itoa(relay) + "/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		b, _ := os.ReadFile(list) // its thread may have ended
		for f := range strings.FieldsSeq(string(b)) {
			if n, err := strconv.Atoi(f); err == nil && name(n) == "behalf-rsa" {
				pid = n
			}
		}
	}
	if pid == 0 {
		t.Fatal("the relay has no helper")
	}
	return pid
}

// name is a process's; empty when it has ended.
func name(pid int) string {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	return strings.TrimSpace(string(b))
}
