package mx

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"behalf/internal/dnsx"
	"behalf/internal/egress"
	"behalf/internal/testkit/smtppeer"
	"behalf/mail"
	"behalf/upstream"
	"behalf/upstream/upstreamtest"
)

// zone is a resolver over records in memory.
type zone struct {
	mx     map[string][]dnsx.MX
	addrs  map[string][]netip.Addr
	broken map[string]bool
	secure bool
}

func (z *zone) answer(name string) (dnsx.Answer, error) {
	if z.broken[name] {
		return dnsx.Answer{}, fmt.Errorf("asking for %s: %w", name, dnsx.ErrTemporary)
	}
	_, a := z.mx[name]
	_, b := z.addrs[name]
	return dnsx.Answer{NXDomain: !a && !b, Secure: z.secure}, nil
}

func (z *zone) MX(_ context.Context, name string) ([]dnsx.MX, dnsx.Answer, error) {
	a, err := z.answer(name)
	return z.mx[name], a, err
}

func (z *zone) Addrs(_ context.Context, name string) ([]netip.Addr, dnsx.Answer, error) {
	a, err := z.answer(name)
	return z.addrs[name], a, err
}

func (z *zone) TXT(context.Context, string) ([]string, dnsx.Answer, error) {
	return nil, dnsx.Answer{}, nil
}
func (z *zone) CNAME(context.Context, string) (string, dnsx.Answer, error) {
	return "", dnsx.Answer{}, nil
}
func (z *zone) PTR(context.Context, netip.Addr) ([]string, dnsx.Answer, error) {
	return nil, dnsx.Answer{}, nil
}

func ip(s string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(s)} }

// lab is an upstream in a world where loopback is the Internet.
func lab(t testing.TB, z *zone, port uint16, change ...func(*Config)) *Upstream {
	t.Helper()
	cfg := Config{Hostname: "relay.us.test", Resolver: z, Port: int(port),
		Dialer: &egress.Dialer{Guard: &egress.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}}
	for _, c := range change {
		c(&cfg)
	}
	u := New(cfg)
	t.Cleanup(func() { u.Close() })
	return u
}

func TestConformance(t *testing.T) {
	upstreamtest.RunSMTP(t, func(t *testing.T, at netip.AddrPort) upstream.Upstream {
		return lab(t, &zone{mx: map[string][]dnsx.MX{"b.test": {{Pref: 10, Host: "mx.b.test"}}},
			addrs: map[string][]netip.Addr{"mx.b.test": {at.Addr()}}}, at.Port())
	})
}

func job(to ...string) *upstream.Job {
	return upstreamtest.Job(&upstreamtest.Mail{Data: upstreamtest.Content}, to...)
}

func first(t testing.TB, u upstream.Upstream, j *upstream.Job) upstream.Result {
	t.Helper()
	return upstreamtest.Deliver(t, u, t.Context(), j)[0]
}

func TestWhereTheDNSLeads(t *testing.T) {
	p := smtppeer.Start(t, smtppeer.Options{})
	here := ip("127.0.0.1")
	for _, c := range []struct {
		name   string
		zone   zone
		want   string // code and enhanced code; "" delivered
		scope  mail.Scope
		reason mail.Reason
	}{
		{"MX", zone{mx: map[string][]dnsx.MX{"b.test": {{Pref: 10, Host: "mx.b.test"}}}, addrs: map[string][]netip.Addr{"mx.b.test": here}}, "", 0, ""},
		{"implicit MX", zone{addrs: map[string][]netip.Addr{"b.test": here}}, "", 0, ""},
		{"no such domain", zone{}, "550 5.1.2", mail.OfRecipient, mail.ReasonNoDomain},
		{"null MX", zone{mx: map[string][]dnsx.MX{"b.test": {{}}}, addrs: map[string][]netip.Addr{"b.test": here}}, "556 5.1.10", mail.OfRecipient, mail.ReasonNoDomain},
		{"neither MX nor address", zone{mx: map[string][]dnsx.MX{"b.test": nil}}, "550 5.4.4", mail.OfRecipient, mail.ReasonDNS},
		{"MX without address", zone{mx: map[string][]dnsx.MX{"b.test": {{Pref: 1, Host: "gone.test"}}}}, "550 5.4.4", mail.OfRecipient, mail.ReasonDNS},
		{"MX silent", zone{broken: map[string]bool{"b.test": true}}, "451 4.4.3", mail.OfDestination, mail.ReasonDNS},
		{"address silent", zone{mx: map[string][]dnsx.MX{"b.test": {{Pref: 1, Host: "mx.b.test"}}}, broken: map[string]bool{"mx.b.test": true}}, "451 4.4.3", mail.OfDestination, mail.ReasonDNS},
		{"one absent, one silent", zone{mx: map[string][]dnsx.MX{"b.test": {{Pref: 1, Host: "gone.test"}, {Pref: 2, Host: "mx.b.test"}}}, broken: map[string]bool{"mx.b.test": true}}, "451 4.4.3", mail.OfDestination, mail.ReasonDNS},
		{"private address", zone{mx: map[string][]dnsx.MX{"b.test": {{Pref: 1, Host: "mx.b.test"}}}, addrs: map[string][]netip.Addr{"mx.b.test": ip("10.0.0.1")}}, "550 5.4.4", mail.OfRecipient, mail.ReasonForbiddenHost},
		{"our own host", zone{mx: map[string][]dnsx.MX{"b.test": {{Pref: 5, Host: "Relay.us.test"}, {Pref: 9, Host: "mx.b.test"}}}, addrs: map[string][]netip.Addr{"mx.b.test": here}}, "554 5.4.6", mail.OfRecipient, mail.ReasonLoop},
		{"our own host as backup", zone{mx: map[string][]dnsx.MX{"b.test": {{Pref: 1, Host: "mx.b.test"}, {Pref: 5, Host: "relay.us.test"}}}, addrs: map[string][]netip.Addr{"mx.b.test": here}}, "", 0, ""},
		{"nobody listens", zone{mx: map[string][]dnsx.MX{"b.test": {{Pref: 1, Host: "mx.b.test"}}}, addrs: map[string][]netip.Addr{"mx.b.test": ip("127.0.0.99")}}, "451 4.4.1", mail.OfDestination, mail.ReasonUnreachable},
		{"first down, second up", zone{mx: map[string][]dnsx.MX{"b.test": {{Pref: 1, Host: "down.b.test"}, {Pref: 2, Host: "mx.b.test"}}}, addrs: map[string][]netip.Addr{"down.b.test": ip("127.0.0.99"), "mx.b.test": here}}, "", 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := first(t, lab(t, &c.zone, p.Port()), job("1@b.test")).Failure
			got := ""
			if f != nil {
				got = fmt.Sprintf("%d %s", f.Code, f.Enhanced)
				if f.Scope != c.scope || f.Reason != c.reason || f.Stage != mail.StageConnect {
					t.Errorf("scope %s, reason %s, stage %d; want %s, %s: %v", f.Scope, f.Reason, f.Stage, c.scope, c.reason, f)
				}
			}
			if got != c.want {
				t.Errorf("%q (%v), want %q", got, f, c.want)
			}
		})
	}
}

// pair is a domain with two exchangers, at 127.0.0.2 and 127.0.0.3.
func pair(t *testing.T, a, b smtppeer.Options) (u *Upstream, better, worse *smtppeer.Peer) {
	a.Addr = "127.0.0.2:0"
	better = smtppeer.Start(t, a)
	b.Addr = fmt.Sprintf("127.0.0.3:%d", better.Port())
	worse = smtppeer.Start(t, b)
	z := &zone{mx: map[string][]dnsx.MX{"b.test": {{Pref: 10, Host: "one.b.test"}, {Pref: 20, Host: "two.b.test"}}},
		addrs: map[string][]netip.Addr{"one.b.test": ip("127.0.0.2"), "two.b.test": ip("127.0.0.3")}}
	return lab(t, z, better.Port()), better, worse
}

func always(verb, reply string) func(smtppeer.Step) smtppeer.Action {
	return func(s smtppeer.Step) smtppeer.Action {
		if s.Verb == verb {
			return smtppeer.Action{Reply: reply}
		}
		return smtppeer.Action{}
	}
}

// TestNextExchanger: another host is asked while no session could be had, and
// not once one of them answered a recipient.
func TestNextExchanger(t *testing.T) {
	for _, c := range []struct {
		verb, reply string
		next        bool
	}{
		{"CONNECT", "421 4.3.2 busy", true}, {"CONNECT", "554 5.7.1 go away", true}, {"EHLO", "421 4.3.2 busy", true}, {"EHLO", "nonsense", true},
		{"MAIL", "451 4.7.1 later", false}, {"RCPT", "450 4.2.0 greylisted", false}, {"RCPT", "550 5.1.1 nobody", false}, {"DOT", "451 4.3.0 no", false},
	} {
		t.Run(c.verb+" "+c.reply, func(t *testing.T) {
			u, _, worse := pair(t, smtppeer.Options{On: always(c.verb, c.reply)}, smtppeer.Options{})
			r := first(t, u, job("1@b.test"))
			if (r.Failure == nil) != c.next || (len(worse.Messages()) == 1) != c.next {
				t.Errorf("%v; the other host got %d", r.Failure, len(worse.Messages()))
			}
		})
	}
}

// TestKeptSessionIsOver: when no session can be had in the place of a kept one
// that has ended, the next host is asked in the same attempt, unless the first
// has answered for a recipient meanwhile.
func TestKeptSessionIsOver(t *testing.T) {
	t.Parallel()
	over := smtppeer.Action{Close: true}
	for _, c := range []struct {
		name  string
		again smtppeer.Action // to the second connection
		first smtppeer.Action // to the second message, over the kept session
		next  bool
	}{
		{"closes again", over, over, true},
		{"is busy", smtppeer.Action{Reply: "421 4.3.2 busy", Close: true}, over, true},
		{"says nothing", smtppeer.Action{Stall: true}, over, true},
		{"is there again", smtppeer.Action{}, over, false},
		{"has refused a recipient", over, smtppeer.Action{Reply: "550 5.7.1 not from you"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			u, better, worse := pair(t, smtppeer.Options{Ext: []string{"8BITMIME"}, On: func(s smtppeer.Step) smtppeer.Action {
				switch {
				case s.Conn == 2 && s.Verb == "CONNECT":
					return c.again
				case s.Conn == 1 && s.Verb == "MAIL" && s.Txn == 2:
					return c.first
				case s.Conn == 1 && s.Verb == "MAIL" && s.Txn > 2:
					return over
				}
				return smtppeer.Action{}
			}}, smtppeer.Options{})
			u.cfg.Open = 4 * time.Second
			if r := first(t, u, job("1@b.test")); r.Failure != nil || r.Host != "one.b.test" {
				t.Fatalf("%v from %s", r.Failure, r.Host)
			}
			rs := upstreamtest.Deliver(t, u, t.Context(), job("x@a.test>2@b.test", "y@a.test>3@b.test"))
			if better.Conns() != 2 {
				t.Errorf("%d connections to the better host", better.Conns())
			}
			if taken := len(worse.Messages()); (taken == 2) != c.next || (taken > 0) != c.next {
				t.Errorf("the other host got %d", taken)
			}
			for i, r := range rs {
				if want := map[bool]string{true: "two.b.test", false: "one.b.test"}[c.next]; r.Host != want {
					t.Errorf("recipient %d: %v from %s, want %s", i, r.Failure, r.Host, want)
				}
				if (r.Failure == nil) != (c.first == over) {
					t.Errorf("recipient %d: %v", i, r.Failure)
				}
			}
			if u.Sessions() > 2 {
				t.Errorf("%d sessions", u.Sessions())
			}
			if c.next { // the session is kept under the name of its host
				if r := first(t, u, job("4@b.test")); r.Failure != nil {
					t.Error(r.Failure)
				}
			}
		})
	}
}

func TestTheHostThatAnsweredIsReported(t *testing.T) {
	u, _, worse := pair(t, smtppeer.Options{On: always("CONNECT", "421 4.7.0 too many connections, try again in 10 minutes")}, smtppeer.Options{})
	worse.Close()
	r := first(t, u, job("1@b.test"))
	f := r.Failure
	if f == nil || f.Stage != mail.StageSession || f.Scope != mail.OfDestination || f.Reason != mail.ReasonRate || f.RetryAfter != 10*time.Minute || r.Host != "one.b.test" {
		t.Errorf("%+v from %s", f, r.Host)
	}
}

func TestTLS(t *testing.T) {
	good, roots := smtppeer.Certificate(t, "mx.b.test")
	other, _ := smtppeer.Certificate(t, "else.test")
	ext := append([]string{"REQUIRETLS"}, smtppeer.DefaultExt...)
	refuse := func(s smtppeer.Step) smtppeer.Action {
		if s.Verb == "STARTTLS" {
			return smtppeer.Action{Reply: "220 go\r\n"} // then no handshake: the peer goes on in clear
		}
		return smtppeer.Action{}
	}
	for _, c := range []struct {
		name    string
		peer    smtppeer.Options
		require bool
		secure  bool
		tls     string
		want    string
	}{
		{"offered and good", smtppeer.Options{TLS: good}, false, false, "TLS 1.3 TLS_AES_128_GCM_SHA256, verified", ""},
		{"wrong name", smtppeer.Options{TLS: other}, false, false, "TLS 1.3 TLS_AES_128_GCM_SHA256, unverified", ""},
		{"not offered", smtppeer.Options{}, false, false, "", ""},
		{"offered and broken", smtppeer.Options{Ext: append([]string{"STARTTLS"}, ext...), On: refuse}, false, false, "", ""},
		{"refused", smtppeer.Options{TLS: good, On: always("STARTTLS", "454 4.7.0 not now")}, false, false, "", ""},
		{"required and good", smtppeer.Options{TLS: good, Ext: ext}, true, true, "TLS 1.3 TLS_AES_128_GCM_SHA256, verified", ""},
		{"required, no keyword", smtppeer.Options{TLS: good}, true, true, "TLS 1.3 TLS_AES_128_GCM_SHA256, verified", "550 5.7.30"},
		{"required, wrong name", smtppeer.Options{TLS: other, Ext: ext}, true, true, "", "451 4.7.10"},
		{"required, not offered", smtppeer.Options{Ext: ext}, true, true, "", "451 4.7.10"},
		{"required, broken", smtppeer.Options{Ext: append([]string{"STARTTLS"}, ext...), On: refuse}, true, true, "", "451 4.7.10"},
		{"required, DNS not secure", smtppeer.Options{TLS: good, Ext: ext}, true, false, "", "550 5.7.30"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := smtppeer.Start(t, c.peer)
			z := &zone{secure: c.secure, mx: map[string][]dnsx.MX{"b.test": {{Pref: 1, Host: "mx.b.test"}}}, addrs: map[string][]netip.Addr{"mx.b.test": ip("127.0.0.1")}}
			u := lab(t, z, p.Port(), func(cfg *Config) {
				cfg.Roots = roots
				if c.peer.On != nil {
					cfg.Timeouts.Handshake = 200 * time.Millisecond // it will not come
				}
			})
			for range 2 { // the second time over a kept session
				j := job("1@b.test")
				j.Message.Envelope.RequireTLS = c.require
				r := first(t, u, j)
				got := ""
				if f := r.Failure; f != nil {
					got = fmt.Sprintf("%d %s", f.Code, f.Enhanced)
				}
				// How a handshake turns out has no certain cipher on odd hardware.
				if got != c.want || strings.Replace(r.TLS, "AES_256_GCM_SHA384", "AES_128_GCM_SHA256", 1) != c.tls {
					t.Errorf("%q %v, TLS %q; want %q, %q", got, r.Failure, r.TLS, c.want, c.tls)
				}
			}
			for _, m := range p.Messages() {
				if c.require && (!m.TLS || !strings.Contains(m.FromArgs, "REQUIRETLS")) {
					t.Errorf("went with TLS %v and %q", m.TLS, m.FromArgs)
				}
			}
		})
	}
}

func TestSessionsAreSharedByDomainsOfOneHost(t *testing.T) {
	p := smtppeer.Start(t, smtppeer.Options{})
	z := &zone{mx: map[string][]dnsx.MX{"b.test": {{Pref: 1, Host: "mx.test"}}, "c.test": {{Pref: 1, Host: "mx.test"}}}, addrs: map[string][]netip.Addr{"mx.test": ip("127.0.0.1")}}
	u := lab(t, z, p.Port(), func(c *Config) { c.Limits.PerKey = 2 })
	for i := range 6 {
		j := job("1@b.test")
		if i%2 == 1 {
			j = job("1@c.test")
			j.Domain = "c.test"
		}
		if f := first(t, u, j).Failure; f != nil {
			t.Error(f)
		}
	}
	if p.Conns() != 1 || u.Sessions() != 1 {
		t.Errorf("%d connections made, %d open", p.Conns(), u.Sessions())
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if f := u.Deliver(t.Context(), job("1@b.test"))[0].Failure; f != nil {
				t.Error(f)
			}
		})
	}
	wg.Wait()
	if p.Conns() > 2 {
		t.Errorf("%d connections at once, 2 are allowed", p.Conns())
	}
}

func TestGreetedByOurselves(t *testing.T) {
	p := smtppeer.Start(t, smtppeer.Options{On: always("CONNECT", "220 relay.us.test ESMTP")})
	z := &zone{addrs: map[string][]netip.Addr{"b.test": ip("127.0.0.1")}}
	if f := first(t, lab(t, z, p.Port()), job("1@b.test")).Failure; f == nil || f.Reason != mail.ReasonLoop {
		t.Error(f)
	}
}

func TestAddressLiteral(t *testing.T) {
	p := smtppeer.Start(t, smtppeer.Options{})
	j := job("1@[127.0.0.1]")
	j.Domain = "[127.0.0.1]"
	if f := first(t, lab(t, &zone{}, p.Port()), j).Failure; f != nil || len(p.Messages()) != 1 {
		t.Error(f)
	}
	u := lab(t, &zone{}, p.Port(), func(c *Config) { c.Dialer = &egress.Dialer{} })
	if f := first(t, u, j).Failure; f == nil || f.Reason != mail.ReasonForbiddenHost || !strings.Contains(f.Text, "127.0.0.1") {
		t.Error(f)
	}
}

// TestWaitingForOurselves: that all our sessions to a host are in use is not
// held against the host, whose clock begins when one comes free.
func TestWaitingForOurselves(t *testing.T) {
	const open = time.Second
	upstreamtest.RunBusy(t, open, func(t *testing.T, at netip.AddrPort) upstream.Upstream {
		z := &zone{mx: map[string][]dnsx.MX{"b.test": {{Pref: 10, Host: "mx.b.test"}}}, addrs: map[string][]netip.Addr{"mx.b.test": {at.Addr()}}}
		return lab(t, z, at.Port(), func(c *Config) { c.Limits.PerKey, c.Open = 1, open })
	})
}

// stalling says nothing from the named step on.
func stalling(verb string) smtppeer.Options {
	return smtppeer.Options{On: func(s smtppeer.Step) smtppeer.Action { return smtppeer.Action{Stall: s.Verb == verb} }}
}

// TestSilentHostHidesNoOther: a host that accepts and says nothing takes its
// share of the time, and then the next is asked, in the same attempt.
func TestSilentHostHidesNoOther(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"CONNECT", "EHLO"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			u, better, worse := pair(t, stalling(verb), smtppeer.Options{})
			u.cfg.Open = 4 * time.Second
			for range 2 {
				r := first(t, u, job("1@b.test"))
				if r.Failure != nil || r.Host != "two.b.test" {
					t.Errorf("%v from %s", r.Failure, r.Host)
				}
			}
			if better.Conns() != 2 || len(worse.Messages()) != 2 {
				t.Errorf("%d connections to the better host, %d messages to the other", better.Conns(), len(worse.Messages()))
			}
		})
	}
}

// TestManySilentHosts: the last of as many hosts as are tried is reached too,
// for the sixth that each gets at least goes beyond the whole.
func TestManySilentHosts(t *testing.T) {
	t.Parallel()
	better := stalling("CONNECT")
	better.Addr = "127.0.0.2:0"
	silent := smtppeer.Start(t, better)
	good := smtppeer.Start(t, smtppeer.Options{Addr: fmt.Sprintf("127.0.0.3:%d", silent.Port())})
	z := &zone{mx: map[string][]dnsx.MX{}, addrs: map[string][]netip.Addr{}}
	for i := range maxHosts {
		name, at := fmt.Sprintf("mx%d.b.test", i), "127.0.0.2"
		if i == maxHosts-1 {
			at = "127.0.0.3"
		}
		z.mx["b.test"] = append(z.mx["b.test"], dnsx.MX{Pref: uint16(i), Host: name})
		z.addrs[name] = ip(at)
	}
	u := lab(t, z, silent.Port(), func(c *Config) { c.Open = 4 * time.Second })
	if f := first(t, u, job("1@b.test")).Failure; f != nil || len(good.Messages()) != 1 || silent.Conns() != maxHosts-1 {
		t.Errorf("%v; %d silent hosts were asked", f, silent.Conns())
	}
}

// TestHangingHandshake: it leaves time for going on in clear, however short the
// host's share is.
func TestHangingHandshake(t *testing.T) {
	t.Parallel()
	p := smtppeer.Start(t, smtppeer.Options{Ext: append([]string{"STARTTLS"}, smtppeer.DefaultExt...), On: always("STARTTLS", "220 go")})
	u := lab(t, &zone{addrs: map[string][]netip.Addr{"b.test": ip("127.0.0.1")}}, p.Port(), func(c *Config) { c.Open = 4 * time.Second })
	if r := first(t, u, job("1@b.test")); r.Failure != nil || r.TLS != "" {
		t.Errorf("%v, TLS %q", r.Failure, r.TLS)
	}
}

func TestSilentHostsCostTheBudgetAndNoMore(t *testing.T) {
	u, _, _ := pair(t, stalling("CONNECT"), stalling("CONNECT"))
	u.cfg.Open = 200 * time.Millisecond
	began := time.Now()
	f := first(t, u, job("1@b.test")).Failure
	if took := time.Since(began); took > 10*time.Second || f == nil || f.Reason != mail.ReasonUnreachable || f.Stage != mail.StageConnect {
		t.Errorf("%v after %v", f, took)
	}
}

func TestSite(t *testing.T) {
	u := lab(t, &zone{broken: map[string]bool{"down.test": true}, mx: map[string][]dnsx.MX{
		"a.test": {{Pref: 1, Host: "aspmx.l.google.com"}, {Pref: 5, Host: "alt1.aspmx.l.google.com"}, {Pref: 10, Host: "aspmx2.googlemail.com"}},
		"b.test": {{Pref: 1, Host: "b-test.mail.protection.outlook.com"}},
		"c.test": {{}}, "d.test": nil, "e.test": {{Pref: 1, Host: "mx.e.co.uk"}},
	}}, 25)
	for domain, want := range map[string]string{
		"a.test": "google.com+googlemail.com", "b.test": "outlook.com", "c.test": "c.test", "d.test": "d.test", "e.test": "e.co.uk",
		"[127.0.0.1]": "[127.0.0.1]",
	} {
		if got, err := u.Site(t.Context(), domain); got != want || err != nil {
			t.Errorf("Site(%s) = %q, %v; want %q", domain, got, err, want)
		}
	}
	if got, err := u.Site(t.Context(), "down.test"); got != "down.test" || !errors.Is(err, dnsx.ErrTemporary) {
		t.Errorf("Site(down.test) = %q, %v", got, err)
	}
}
