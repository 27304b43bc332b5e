package smarthost

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"behalf/internal/egress"
	"behalf/internal/smtpclient"
	"behalf/internal/testkit/smtppeer"
	"behalf/mail"
	"behalf/upstream"
	"behalf/upstream/upstreamtest"
)

func TestConformance(t *testing.T) {
	upstreamtest.RunSMTP(t, func(t *testing.T, at netip.AddrPort) upstream.Upstream {
		return open(t, Config{Host: at.Addr().String(), Port: int(at.Port()), Security: "none"})
	})
}

// open makes an upstream for a host that an admin named.
func open(t testing.TB, cfg Config) *Upstream {
	t.Helper()
	cfg.Hello, cfg.Origin = "behalf.test", egress.FromAdmin
	if cfg.Dialer == nil {
		cfg.Dialer = &egress.Dialer{}
	}
	u, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

func password(s string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return s, nil }
}

// certificate is the peer's certificate as PEM.
func certificate(c *tls.Config) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificates[0].Certificate[0]}))
}

// TestPasswordsAndTLS is the rule of the package: a password goes through
// verified TLS, or over loopback, or where AllowInsecure says so.
func TestPasswordsAndTLS(t *testing.T) {
	good, _ := smtppeer.Certificate(t, "127.0.0.1")
	other, _ := smtppeer.Certificate(t, "else.test")
	for _, c := range []struct {
		name     string
		server   *tls.Config
		implicit bool
		security string
		ca       *tls.Config
		insecure bool
		want     mail.Reason // "" for delivered
		tls      string
	}{
		{"starttls", good, false, "starttls", good, false, "", "verified"},
		{"tls", good, true, "tls", good, false, "", "verified"},
		{"unknown authority", good, false, "starttls", nil, false, mail.ReasonTLS, ""},
		{"wrong name", other, false, "starttls", other, false, mail.ReasonTLS, ""},
		{"wrong name, allowed", other, false, "starttls", other, true, "", "unverified"},
		{"not offered", nil, false, "starttls", nil, false, mail.ReasonTLS, ""},
		{"not offered, and insecure is no way round", nil, false, "starttls", nil, true, mail.ReasonTLS, ""},
		{"none on loopback", nil, false, "none", nil, false, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := smtppeer.Start(t, smtppeer.Options{TLS: c.server, Implicit: c.implicit, Auth: []string{"PLAIN"}, Users: map[string]string{"u": "pw"}})
			cfg := Config{Host: p.Host(), Port: int(p.Port()), Security: c.security, AllowInsecure: c.insecure, Username: "u", Password: password("pw")}
			if c.ca != nil {
				cfg.CA = certificate(c.ca)
			}
			r := upstreamtest.Deliver(t, open(t, cfg), t.Context(), upstreamtest.Job(&upstreamtest.Mail{Data: upstreamtest.Content}, "1@b.test"))[0]
			var got mail.Reason
			if r.Failure != nil {
				got = r.Failure.Reason
				if r.Failure.Scope != mail.OfRoute || !r.Failure.Temporary() {
					t.Errorf("%+v", r.Failure)
				}
			}
			if got != c.want || c.tls != "" && !strings.HasSuffix(r.TLS, ", "+c.tls) {
				t.Errorf("%v, TLS %q; want %q, %q", r.Failure, r.TLS, c.want, c.tls)
			}
			for _, l := range p.Lines() {
				if c.want != "" && strings.HasPrefix(l, "AUTH") {
					t.Errorf("the password was sent: %q", l)
				}
			}
		})
	}
}

func TestInClear(t *testing.T) {
	far, near := &net.TCPAddr{IP: net.ParseIP("192.0.2.1")}, &net.TCPAddr{IP: net.ParseIP("::1")}
	for _, c := range []struct {
		security string
		insecure bool
		addr     net.Addr
		want     bool
	}{
		{"none", false, near, true}, {"none", false, far, false}, {"none", true, far, true}, {"starttls", true, near, false}, {"tls", true, near, false},
	} {
		u := open(t, Config{Host: "h", Security: c.security, AllowInsecure: c.insecure})
		if got := u.inClear(remote{addr: c.addr}); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

type remote struct {
	net.Conn
	addr net.Addr
}

func (r remote) RemoteAddr() net.Addr { return r.addr }

func TestGuardedHost(t *testing.T) {
	p := smtppeer.Start(t, smtppeer.Options{})
	u := open(t, Config{Host: p.Host(), Port: int(p.Port()), Security: "none"})
	u.cfg.Origin = egress.FromTenant
	f := upstreamtest.Deliver(t, u, t.Context(), upstreamtest.Job(&upstreamtest.Mail{Data: upstreamtest.Content}, "1@b.test"))[0].Failure
	if f == nil || f.Reason != mail.ReasonForbiddenHost || f.Scope != mail.OfRoute {
		t.Errorf("%+v", f)
	}
	if p.Conns() != 0 {
		t.Error("the guarded host was reached")
	}
}

func TestNew(t *testing.T) {
	for name, cfg := range map[string]Config{
		"security": {Host: "h", Security: "ssl"}, "no host": {}, "port": {Host: "h", Port: 70000},
		"ca": {Host: "h", CA: "no certificate"},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for security, port := range map[string]int{"tls": 465, "starttls": 587, "none": 25, "": 587} {
		if u := open(t, Config{Host: "h", Security: security}); u.cfg.Port != port {
			t.Errorf("security %q: port %d", security, u.cfg.Port)
		}
	}
}

// TestWaitingForOurselves: that all our sessions are in use is not held against
// the server, whose clock begins when one comes free.
func TestWaitingForOurselves(t *testing.T) {
	const wait = time.Second
	upstreamtest.RunBusy(t, wait, func(t *testing.T, at netip.AddrPort) upstream.Upstream {
		return open(t, Config{Host: at.Addr().String(), Port: int(at.Port()), Security: "none", Limits: smtpclient.Limits{PerKey: 1}, Open: wait})
	})
}

// TestDownTakesLittle: two tries at a server that says nothing fit in a minute.
func TestDownTakesLittle(t *testing.T) {
	p := smtppeer.Start(t, smtppeer.Options{On: func(smtppeer.Step) smtppeer.Action { return smtppeer.Action{Stall: true} }})
	u := open(t, Config{Host: p.Host(), Port: int(p.Port()), Security: "none", Open: 100 * time.Millisecond})
	f := upstreamtest.Deliver(t, u, t.Context(), upstreamtest.Job(&upstreamtest.Mail{Data: upstreamtest.Content}, "1@b.test"))[0].Failure
	if f == nil || f.Stage != mail.StageConnect || f.Scope != mail.OfDestination || f.Reason != mail.ReasonUnreachable {
		t.Errorf("%+v", f)
	}
	if _, err := u.Check(t.Context()); err == nil {
		t.Error("Check found nothing wrong")
	}
	if 2*defaultOpen+15*time.Second*6/5 > time.Minute {
		t.Error("the default leaves no time for two tries")
	}
}
