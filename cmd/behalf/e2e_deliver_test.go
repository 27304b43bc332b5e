package main_test

import (
	"fmt"
	"strings"
	"testing"

	"behalf/internal/testkit/lab"
	"behalf/internal/testkit/smtppeer"
)

// receivers are the mail servers that the relay must get on with.
var receivers = []struct {
	name  string
	start func(testing.TB, int, lab.ServerOptions) *lab.Server
	tls   bool // works; Debian's OpenSMTPD offers it and then fails
}{
	{"Postfix", lab.StartPostfix, true}, {"OpenSMTPD", lab.StartOpenSMTPD, false}, {"Exim", lab.StartExim, true},
}

// As exchangers found in the DNS, they take mail over the TLS that they offer;
// one that cannot do what it offers is asked again in clear.
func TestE2EDeliverToExchangers(t *testing.T) {
	t.Parallel()
	for _, v := range receivers {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			var s *lab.Server
			w := lab.NewWorld(t, func(w *lab.World) string {
				s = v.start(t, w.MXPort, lab.ServerOptions{Hostname: "mx.receiver.test", Next: lab.Addr(w.Sink.Host(), w.MXPort)})
				return lab.MX("receiver.test", "mx.receiver.test", s.Host)
			}, nil)
			r := start(t, w, "")
			id := send(t, r, "you@receiver.test", "to the exchanger "+v.name)
			r.Reaches(t, id, "delivered", soon)
			got := lab.Arrived(t, w.Sink, "to the exchanger "+v.name)
			if !strings.HasSuffix(got.From, "@bounce.acme.test") || got.To[0] != "you@receiver.test" {
				t.Errorf("arrived from %s to %v", got.From, got.To)
			}
			trace := r.MustCLI(t, "message", "trace", id)
			over := "no TLS"
			if v.tls {
				over = "TLS 1.3"
			}
			for _, want := range []string{"host mx.receiver.test [" + s.Addr() + "], " + over, "method domain"} {
				if !strings.Contains(trace, want) {
					t.Errorf("the trace lacks %q:\n%s", want, trace)
				}
			}
		})
	}
}

// As a tenant's account they want a password, over TLS with a certificate that
// is checked; on loopback it may be neither.
func TestE2EDeliverThroughAnAccount(t *testing.T) {
	t.Parallel()
	for _, v := range receivers {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			w := lab.NewWorld(t, nil, nil)
			s := v.start(t, 0, lab.ServerOptions{Hostname: "smtp.office.test", Next: lab.Addr(w.Sink.Host(), w.MXPort), Auth: v.tls})
			r := w.Relay(t, lab.RelayOptions{Binary: binary(t), Resources: w.Tenants("[ { connection: office } ]") + connection("office", s, "account")})
			id := send(t, r, "you@elsewhere.test", "through the account at "+v.name, "--header", "Behalf-Method: connection")
			r.Reaches(t, id, "delivered", soon)
			got := lab.Arrived(t, w.Sink, "through the account at "+v.name)
			if got.From != "support@acme.test" {
				t.Errorf("MAIL FROM was %s, not the account's address", got.From)
			}
		})
	}
}

// connection is a resource of tenant acme for a server, with the log-in that it
// wants.
func connection(name string, s *lab.Server, envelope string) string {
	login := "security: none"
	if s.User != "" {
		login = fmt.Sprintf("security: starttls, username: %q, password: %q, ca_file: %q", s.User, s.Pass, s.CA)
	}
	return fmt.Sprintf(`---
kind: connection
tenant: acme
name: %s
provider: smtp
senders: [support@acme.test]
envelope: %s
smtp: { host: "%s", port: %d, %s }
`, name, envelope, s.Host, s.Port, login)
}

// The platform's own smart host carries what tenants' domains sign.
func TestE2EDeliverThroughThePlatform(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, nil)
	cert := lab.NewCertificate(t, "smtp.platform.test", "127.0.0.1")
	host := smtppeer.Start(t, smtppeer.Options{TLS: cert.Config, Auth: []string{"SCRAM-SHA-256", "PLAIN"}, Users: map[string]string{"u": "p"}})
	r := w.Relay(t, lab.RelayOptions{Binary: binary(t), Resources: w.Tenants("[ { upstream: platform } ]"), Config: fmt.Sprintf(
		"upstream: { platform: { host: 127.0.0.1, port: %d, security: starttls, username: u, password: p, ca_file: %q } }\n", host.Port(), cert.CertFile)})
	r.Reaches(t, send(t, r, "you@elsewhere.test", "by the platform"), "delivered", soon)
	got := lab.Arrived(t, host, "by the platform")
	if !got.TLS || got.User != "u" || !strings.Contains(got.Data, "d=acme.test; s=b2") {
		t.Errorf("TLS %v, user %q, message:\n%s", got.TLS, got.User, got.Data)
	}
}
