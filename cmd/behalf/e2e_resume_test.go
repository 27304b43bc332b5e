package main_test

import (
	"strings"
	"testing"
	"time"

	"behalf/internal/testkit/lab"
	"behalf/internal/testkit/smtppeer"
)

// A new password for a connection whose log-in was refused is tried at once: mail
// that waits does not wait for the next probe, a minute after the refusal.
func TestE2ENewPasswordIsTriedAtOnce(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, nil)
	cert := lab.NewCertificate(t, "127.0.0.1")
	p := smtppeer.Start(t, smtppeer.Options{TLS: cert.Config, Auth: []string{"PLAIN"}, Users: map[string]string{"u": "new"}})
	server := &lab.Server{Host: p.Host(), Port: int(p.Port()), User: "u", Pass: "old", CA: cert.CertFile}
	r := w.Relay(t, lab.RelayOptions{Binary: binary(t), Resources: w.Tenants("[ { connection: office } ]") + connection("office", server, "any"),
		Config: "delivery: { retry: [1s] }\n"})
	refused := send(t, r, "you@elsewhere.test", "one")
	begun := time.Now()
	for !strings.Contains(r.MustCLI(t, "message", "trace", refused), "535") {
		if time.Since(begun) > soon {
			t.Fatal(r.MustCLI(t, "message", "trace", refused))
		}
		time.Sleep(100 * time.Millisecond)
	}
	closed := time.Now()
	waits := send(t, r, "you@elsewhere.test", "two")
	server.Pass = "new"
	if out, err := r.CLI(t, connection("office", server, "any"), "apply", "-f", "-"); err != nil {
		t.Fatal(out, err)
	}
	for _, id := range []string{refused, waits} {
		r.Reaches(t, id, "delivered", time.Minute)
	}
	if took := time.Since(closed); took > 50*time.Second {
		t.Errorf("delivered %v after the refusal, as the probe alone would have it", took)
	}
}
