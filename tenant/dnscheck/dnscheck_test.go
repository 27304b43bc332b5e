package dnscheck

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"behalf/internal/dnsx"
	"behalf/internal/kv/mem"
	"behalf/internal/testkit/dnsserver"
	"behalf/mail"
	"behalf/tenant"
)

// world is a checker over a real client and a test DNS server.
func world(t *testing.T, zone string, p Platform) (*Checker, *dnsserver.Server) {
	t.Helper()
	s := dnsserver.Start(t, zone)
	c, err := dnsx.New(dnsx.Options{Servers: []string{s.Addr()}, Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	st := mem.New(mem.Options{})
	t.Cleanup(func() { st.Close() })
	if p.Hostname == "" {
		p = Platform{Hostname: "relay.platform.example", InboundHost: "mx.platform.example", SPF: "ip4:192.0.2.0/28 ip6:2001:db8::1"}
	}
	return New(Options{Resolver: c, Store: st, Platform: p}), s
}

var pubEd = base64.StdEncoding.EncodeToString(make([]byte, 32))

const pubRSA = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu1SU1LfVLPHCozMxH2Mo4lgOEePzNm0tRgeLezV6ffAt0gunVTLw7onLRnrq0/IzW7yWR7QkrmBL7jTKEn5u+qKhbwKfBstIs+bMY2Zkp18gnTxKLxoS2tFczGkPLPgizskuemMghRniWaoLcyehkd3qqGElvW/VDL5AaWTg0nLVkjRo9z+40RQzuVaE8AkAFmxZzow3x+VJYKdjykkJ0iT9wCS0DRTXu269V264Vf/3jvredZiKRkgwlL9xNAwxXFg0x/XFw005UWVRIkdgcKWTjpBP2dPwVZ4WWC+9aGVd+Gyn1o0CLelf4rEjGoXbAAEgAqeGUxrcIlbjXfbcmwIDAQAB"

func TestKeysAreComparedByMeaning(t *testing.T) {
	other := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", 32)))
	for _, tt := range []struct {
		pub  string
		txt  []string
		nx   bool
		want Status
	}{
		{pubEd, []string{"v=DKIM1; k=ed25519; p=" + pubEd}, false, OK},
		{pubEd, []string{"p=" + pubEd[:10] + " " + pubEd[10:] + " ;  k=ed25519; v=DKIM1; n=a note"}, false, OK},
		{pubRSA, []string{"v=DKIM1; p=" + pubRSA}, false, OK},
		{pubRSA, []string{"k=rsa; t=s; h=sha256:sha1; p=" + pubRSA + ";"}, false, OK},
		{pubEd, []string{"v=DKIM1; k=ed25519; p=" + other}, false, Wrong},
		{pubEd, []string{"v=DKIM1; p=" + pubEd}, false, Wrong}, // says RSA
		{pubRSA, []string{"v=DKIM1; p=" + pubRSA[:300]}, false, Wrong},
		{pubRSA, []string{"v=DKIM1; h=sha1; p=" + pubRSA}, false, Wrong},
		{pubEd, []string{"v=DKIM1; k=ed25519; p="}, false, revoked},
		{pubEd, []string{"v=DKIM1; k=ed25519; p=" + pubEd, "v=DKIM1; k=ed25519; p=" + other}, false, Wrong},
		{pubEd, []string{"v=spf1 -all"}, false, Wrong},
		{pubEd, nil, false, Missing},
		{pubEd, nil, true, Missing},
	} {
		if got, found := compareKey(tt.txt, tt.nx, tt.pub); got != tt.want || found == "" {
			t.Errorf("%q: %s, %q; want %s", tt.txt, got, found, tt.want)
		}
	}
}

func TestKeysOfADomain(t *testing.T) {
	c, s := world(t, `b2._domainkey.acme.example. TXT "v=DKIM1; k=ed25519; p=`+pubEd+`"`, Platform{})
	d := &tenant.Domain{Name: "acme.example", DKIM: []tenant.DKIMKey{
		{Selector: "b1", Algorithm: "rsa-2048", Public: pubRSA}, {Selector: "b2", Algorithm: "ed25519", Public: pubEd}}}
	k := c.Keys(t.Context(), 7, d)
	if len(k.Seen) != 1 || k.Seen[0] != (mail.Selector{Tenant: 7, Domain: "acme.example", Name: "b2"}) || k.Unknown {
		t.Errorf("%+v", k)
	}
	if k.Missed.Selector != "b1" || k.Missed.Record() != "v=DKIM1; k=rsa; p="+pubRSA || k.Found != "no such name" {
		t.Errorf("missed: %+v", k)
	}
	s.Log()
	c.Keys(t.Context(), 7, d)
	if l := s.Log(); len(l) != 0 {
		t.Errorf("asked again at once: %v", l)
	}
	s.Fail("", dnsserver.Servfail)
	if k := c.Keys(t.Context(), 7, &tenant.Domain{Name: "other.example", DKIM: d.DKIM}); !k.Unknown || len(k.Seen) != 0 {
		t.Errorf("with the DNS in trouble: %+v; want Unknown", k)
	}
	s.Fail("", dnsserver.None)
	if k := c.Keys(t.Context(), 7, &tenant.Domain{Name: "third.example", DKIM: d.DKIM}); k.Missed.Selector != "b2" || k.Missed.Record() != "v=DKIM1; k=ed25519; p="+pubEd {
		t.Errorf("%+v; want the shorter of two that are missed", k)
	}
}

// fake is a resolver whose answers a test changes while the clock is virtual.
type fake struct {
	mu    sync.Mutex
	txt   map[string][]string
	err   error
	asked int
	wait  time.Duration
}

func (f *fake) set(name string, txt ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.txt[name], f.err = txt, nil
}

func (f *fake) fail() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = fmt.Errorf("%w: SERVFAIL", dnsx.ErrTemporary)
}

func (f *fake) TXT(ctx context.Context, name string) ([]string, dnsx.Answer, error) {
	if f.wait > 0 {
		select {
		case <-time.After(f.wait):
		case <-ctx.Done():
			return nil, dnsx.Answer{}, fmt.Errorf("%w: %w", dnsx.ErrTemporary, ctx.Err())
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	txt := f.txt[name]
	return txt, dnsx.Answer{NXDomain: len(txt) == 0, TTL: time.Minute}, f.err
}
func (f *fake) MX(context.Context, string) ([]dnsx.MX, dnsx.Answer, error) {
	return nil, dnsx.Answer{NXDomain: true}, nil
}
func (f *fake) Addrs(context.Context, string) ([]netip.Addr, dnsx.Answer, error) {
	return nil, dnsx.Answer{NXDomain: true}, nil
}
func (f *fake) CNAME(context.Context, string) (string, dnsx.Answer, error) {
	return "", dnsx.Answer{}, nil
}
func (f *fake) PTR(context.Context, netip.Addr) ([]string, dnsx.Answer, error) {
	return nil, dnsx.Answer{}, nil
}

// TestSeenKeyOutlivesTrouble goes through the life of a key: each step changes
// the DNS, waits, and says whether the key counts as published.
func TestSeenKeyOutlivesTrouble(t *testing.T) {
	const name = "b1._domainkey.acme.example"
	sel := mail.Selector{Tenant: 1, Domain: "acme.example", Name: "b1"}
	there := func(f *fake) { f.set(name, "v=DKIM1; k=ed25519; p="+pubEd) }
	gone := func(f *fake) { f.set(name) }
	revoke := func(f *fake) { f.set(name, "v=DKIM1; k=ed25519; p=") }
	fail := func(f *fake) { f.fail() }
	type step struct {
		dns  func(*fake)
		wait time.Duration
		want string // seen, unseen, error
	}
	const day = 24 * time.Hour
	for title, steps := range map[string][]step{
		"never there":                      {{gone, 0, "unseen"}, {gone, time.Hour, "unseen"}, {there, 2 * time.Minute, "seen"}},
		"never asked with success":         {{fail, 0, "error"}, {there, time.Minute, "seen"}},
		"trouble for six days":             {{there, 0, "seen"}, {fail, day, "seen"}, {fail, 5 * day, "seen"}},
		"trouble for eight days":           {{there, 0, "seen"}, {fail, 8 * day, "error"}},
		"gone after eight days of trouble": {{there, 0, "seen"}, {fail, 8 * day, "error"}, {gone, time.Minute, "unseen"}},
		"one bad answer":                   {{there, 0, "seen"}, {gone, 2 * time.Hour, "seen"}, {there, 2 * time.Minute, "seen"}, {gone, 2 * time.Hour, "seen"}},
		"gone for good":                    {{there, 0, "seen"}, {gone, 2 * time.Hour, "seen"}, {gone, 2 * time.Minute, "seen"}, {gone, 11 * time.Minute, "unseen"}},
		"gone, and then trouble":           {{there, 0, "seen"}, {gone, 2 * time.Hour, "seen"}, {fail, 15 * time.Minute, "seen"}, {gone, 2 * time.Minute, "unseen"}},
		"revoked on purpose":               {{there, 0, "seen"}, {revoke, 2 * time.Hour, "unseen"}},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{txt: map[string][]string{}}
				st := mem.New(mem.Options{})
				defer st.Close()
				c := New(Options{Resolver: f, Store: st, Platform: Platform{Hostname: "h.example"}})
				for i, s := range steps {
					s.dns(f)
					time.Sleep(s.wait)
					if i%2 == 1 { // as after a restart
						c = New(Options{Resolver: f, Store: st, Platform: Platform{Hostname: "h.example"}})
					}
					seen, detail, err := c.Published(t.Context(), sel, pubEd)
					got := map[bool]string{true: "seen", false: "unseen"}[seen]
					if err != nil {
						got = "error"
						if !errors.Is(err, dnsx.ErrTemporary) {
							t.Errorf("%v", err)
						}
					}
					if got != s.want || detail == "" {
						t.Fatalf("step %d: %s (%s, %v); want %s", i+1, got, detail, err, s.want)
					}
				}
			})
		})
	}
}

func TestAnotherKeyAtTheSelectorStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{txt: map[string][]string{}}
		st := mem.New(mem.Options{})
		defer st.Close()
		c := New(Options{Resolver: f, Store: st})
		sel := mail.Selector{Tenant: 1, Domain: "acme.example", Name: "b1"}
		f.set("b1._domainkey.acme.example", "v=DKIM1; k=ed25519; p="+pubEd)
		if seen, _, _ := c.Published(t.Context(), sel, pubEd); !seen {
			t.Fatal("not seen")
		}
		if seen, _, _ := c.Published(t.Context(), sel, pubRSA); seen {
			t.Error("a new key counts as seen because the old one was")
		}
	})
}

func TestOneCallerAsksAgainWhileOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{txt: map[string][]string{}}
		st := mem.New(mem.Options{})
		defer st.Close()
		c := New(Options{Resolver: f, Store: st})
		sel := mail.Selector{Domain: "acme.example", Name: "b1"}
		f.set("b1._domainkey.acme.example", "v=DKIM1; k=ed25519; p="+pubEd)
		c.Published(t.Context(), sel, pubEd)
		time.Sleep(2 * time.Hour)
		f.asked, f.wait = 0, time.Second
		begin := time.Now()
		var slow, fast int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				seen, _, err := c.Published(t.Context(), sel, pubEd)
				mu.Lock()
				defer mu.Unlock()
				if !seen || err != nil {
					t.Errorf("%v, %v", seen, err)
				}
				if time.Since(begin) == 0 {
					fast++
				} else {
					slow++
				}
			})
		}
		wg.Wait()
		if slow != 1 || fast != 19 || f.asked != 1 {
			t.Errorf("%d waited, %d did not, asked %d times; want 1, 19, 1", slow, fast, f.asked)
		}
	})
}

const pathZone = `
bounce.good.example.    MX 10 mx.platform.example.
bounce.good.example.    TXT "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 ~all"
bounce.alias.example.   CNAME rp.platform.example.
rp.platform.example.    MX 10 mx.platform.example.
rp.platform.example.    TXT "v=spf1 include:spf.platform.example -all"
spf.platform.example.   TXT "v=spf1 ip4:192.0.2.0/28 ip6:2001:db8::1 -all"
bounce.nomx.example.    TXT "v=spf1 ip4:192.0.2.0/24 ~all"
bounce.othermx.example. MX 10 mail.elsewhere.example.
bounce.nospf.example.   MX 10 mx.platform.example.
bounce.half.example.    MX 10 mx.platform.example.
bounce.half.example.    TXT "v=spf1 ip4:192.0.2.0/29 ip6:2001:db8::1 ~all"
bounce.minus.example.   MX 10 mx.platform.example.
bounce.minus.example.   TXT "v=spf1 -ip4:192.0.2.0/24 ip6:2001:db8::1 ~all"
bounce.two.example.     MX 10 mx.platform.example.
bounce.two.example.     TXT "v=spf1 ip4:192.0.2.0/24 ~all"
bounce.two.example.     TXT "v=spf1 mx ~all"
bounce.trouble.example. MX 10 mx.platform.example.
bounce.trouble.example. TXT "v=spf1 include:broken.example -all"
relay.platform.example. A 198.51.100.7
`

func TestReturnPath(t *testing.T) {
	c, s := world(t, pathZone, Platform{})
	s.Fail("broken.example", dnsserver.Servfail)
	s.Fail("bounce.down.example", dnsserver.Servfail)
	for host, want := range map[string]string{
		"bounce.good.example":    "leads here",
		"Bounce.Good.example.":   "leads here",
		"bounce.alias.example":   "leads here",
		"bounce.none.example":    "MX: no such name; expected: 10 mx.platform.example.",
		"bounce.nomx.example":    "MX: no MX record; expected: 10 mx.platform.example.",
		"bounce.othermx.example": "MX: 10 mail.elsewhere.example.; expected: 10 mx.platform.example.",
		"bounce.nospf.example":   "TXT: no SPF record; expected: v=spf1 ip4:192.0.2.0/28 ip6:2001:db8::1 ~all",
		"bounce.half.example":    "does not cover 192.0.2.15",
		"bounce.minus.example":   "does not cover 192.0.2.0",
		"bounce.two.example":     "several SPF records",
		"bounce.trouble.example": "error",
		"bounce.down.example":    "error",
	} {
		ok, detail, err := c.ReturnPath(t.Context(), host)
		if want == "error" {
			if !errors.Is(err, dnsx.ErrTemporary) || ok {
				t.Errorf("%s: %v, %q, %v; want a temporary error", host, ok, detail, err)
			}
			continue
		}
		if err != nil || ok != (want == "leads here") || !strings.Contains(detail, want) {
			t.Errorf("%s: %v, %q, %v; want %q", host, ok, detail, err, want)
		}
	}
	byHost, _ := world(t, pathZone+`bounce.host.example. MX 10 relay.platform.example.
bounce.host.example. TXT "v=spf1 ip4:198.51.100.7 -all"
bounce.name.example. MX 10 relay.platform.example.
bounce.name.example. TXT "v=spf1 a:relay.platform.example -all"`, Platform{Hostname: "relay.platform.example"})
	for _, host := range []string{"bounce.host.example", "bounce.name.example"} {
		if ok, detail, err := byHost.ReturnPath(t.Context(), host); !ok {
			t.Errorf("%s without a stated egress: %q, %v", host, detail, err)
		}
	}
}

const dmarcZone = `
_dmarc.own.example.        TXT "v=DMARC1; p=quarantine; sp=reject; adkim=s; aspf=s"
_dmarc.org.example.        TXT "v=DMARC1; p=reject; sp=none; np=quarantine"
mail.org.example.          TXT "here"
_dmarc.plain.example.      TXT "v=DMARC1;p=reject"
_dmarc.case.example.       TXT "V = DMARC1 ; P = Reject ; adkim = S ; unknown ; x=y"
_dmarc.nop.example.        TXT "v=DMARC1; rua=mailto:a@nop.example"
_dmarc.useless.example.    TXT "v=DMARC1; p=maybe"
_dmarc.two.example.        TXT "v=DMARC1; p=reject"
_dmarc.two.example.        TXT "v=DMARC1; p=none"
_dmarc.noise.example.      TXT "verification=123"
_dmarc.noise.example.      TXT "v=DMARC1; p=none"
_dmarc.later.example.      TXT "p=reject; v=DMARC1"
_dmarc.testing.example.    TXT "v=DMARC1; p=reject; t=y"
_dmarc.bank.               TXT "v=DMARC1; p=reject; sp=quarantine; np=reject; psd=y"
x.first.bank.              TXT "here"
_dmarc.second.bank.        TXT "v=DMARC1; p=none"
_dmarc.big.example.        TXT "v=DMARC1; p=reject"
_dmarc.part.big.example.   TXT "v=DMARC1; p=none; psd=n"
_dmarc.mid.tall.example.   TXT "v=DMARC1; p=none"
_dmarc.tall.example.       TXT "v=DMARC1; p=reject"
_dmarc.d.e.f.g.long.example. TXT "v=DMARC1; p=reject"
`

func TestDMARC(t *testing.T) {
	c, s := world(t, dmarcZone, Platform{})
	for _, tt := range []struct {
		from, domain, org string
		policy            tenant.Policy
		adkim             tenant.Mode
	}{
		{"own.example", "own.example", "own.example", tenant.PolicyQuarantine, tenant.Strict},
		{"OWN.example.", "own.example", "own.example", tenant.PolicyQuarantine, tenant.Strict},
		{"sub.own.example", "own.example", "own.example", tenant.PolicyReject, tenant.Strict},
		{"mail.org.example", "org.example", "org.example", tenant.PolicyNone, tenant.Relaxed},          // sp, as it exists
		{"nowhere.org.example", "org.example", "org.example", tenant.PolicyQuarantine, tenant.Relaxed}, // np, as it does not
		{"a.b.plain.example", "plain.example", "plain.example", tenant.PolicyReject, tenant.Relaxed},   // p for want of sp
		{"case.example", "case.example", "case.example", tenant.PolicyReject, tenant.Strict},
		{"nop.example", "nop.example", "nop.example", tenant.PolicyNone, tenant.Relaxed},
		{"useless.example", "", "", tenant.PolicyAbsent, tenant.Relaxed},
		{"two.example", "", "", tenant.PolicyAbsent, tenant.Relaxed},
		{"noise.example", "noise.example", "noise.example", tenant.PolicyNone, tenant.Relaxed},
		{"later.example", "", "", tenant.PolicyAbsent, tenant.Relaxed},
		{"testing.example", "testing.example", "testing.example", tenant.PolicyReject, tenant.Relaxed},
		{"none.example", "", "", tenant.PolicyAbsent, tenant.Relaxed},
		{"x.first.bank", "bank", "first.bank", tenant.PolicyQuarantine, tenant.Relaxed}, // that of the public suffix
		{"ghost.bank", "bank", "ghost.bank", tenant.PolicyReject, tenant.Relaxed},
		{"second.bank", "second.bank", "second.bank", tenant.PolicyNone, tenant.Relaxed},
		{"bank", "bank", "bank", tenant.PolicyReject, tenant.Relaxed},
		{"a.part.big.example", "part.big.example", "part.big.example", tenant.PolicyNone, tenant.Relaxed},
		{"a.mid.tall.example", "tall.example", "tall.example", tenant.PolicyReject, tenant.Relaxed}, // not that in the middle
		{"mid.tall.example", "mid.tall.example", "tall.example", tenant.PolicyNone, tenant.Relaxed},
		{"1.2.3.4.a.b.c.d.e.f.g.long.example", "d.e.f.g.long.example", "d.e.f.g.long.example", tenant.PolicyReject, tenant.Relaxed},
	} {
		got, err := c.DMARC(t.Context(), tt.from)
		if err != nil || got.Domain != tt.domain || got.Org != tt.org || got.Policy != tt.policy || got.ADKIM != tt.adkim {
			t.Errorf("%s: %+v, %v; want %+v", tt.from, got, err, tt)
		}
	}
	if org, err := c.OrgDomain(t.Context(), "a.none.example"); err != nil || org != "a.none.example" {
		t.Errorf("OrgDomain without a record: %q, %v", org, err)
	}
	s.Log()
	c.DMARC(t.Context(), strings.Repeat("x.", 100)+"deep.example")
	if l := s.Log(); len(l) > 8 {
		t.Errorf("asked %d times; want at most 8", len(l))
	}
	s.Fail("_dmarc.down.example", dnsserver.Servfail)
	for _, from := range []string{"down.example", "a.down.example"} {
		if d, err := c.DMARC(t.Context(), from); !errors.Is(err, dnsx.ErrTemporary) {
			t.Errorf("%s: %+v, %v; want a temporary error", from, d, err)
		}
	}
}

func TestWalkTargets(t *testing.T) {
	got := strings.Join(walkTargets("a.b.c.d.e.f.g.h.i.j.mail.example.com"), " ")
	want := "a.b.c.d.e.f.g.h.i.j.mail.example.com g.h.i.j.mail.example.com h.i.j.mail.example.com i.j.mail.example.com j.mail.example.com mail.example.com example.com com"
	if got != want {
		t.Errorf("%s\nwant %s (RFC 9989, appendix)", got, want)
	}
	if got := walkTargets("example.com"); !slices.Equal(got, []string{"example.com", "com"}) {
		t.Errorf("%q", got)
	}
}

func TestFreemail(t *testing.T) {
	for d, want := range map[string]bool{"gmail.com": true, "GMX.de.": true, "mail.yahoo.com": true, "acme.example": false, "notgmail.com": false, "com": false, "": false, "# Domains": false} {
		if Freemail(d) != want {
			t.Errorf("Freemail(%q) = %v", d, !want)
		}
	}
}

func TestRecordsSayWhatToPublish(t *testing.T) {
	c, s := world(t, "", Platform{})
	d := &tenant.Domain{Name: "acme.example", ReturnPath: "bounce", DKIM: []tenant.DKIMKey{
		{Selector: "b1", Algorithm: "rsa-2048", Public: pubRSA}, {Selector: "b2", Algorithm: "ed25519", Public: pubEd}}}
	statuses := func(rs []Record) string {
		var b []string
		for _, r := range rs {
			if r.Help == "" || r.Value == "" {
				t.Errorf("%+v", r)
			}
			b = append(b, r.Purpose+" "+r.Type+" "+r.Name+" "+string(r.Status))
		}
		return strings.Join(b, "\n")
	}
	want := func(status string) string {
		return strings.ReplaceAll(`dkim TXT b1._domainkey.acme.example S
dkim TXT b2._domainkey.acme.example S
return-path-mx MX bounce.acme.example S
return-path-spf TXT bounce.acme.example S
dmarc TXT _dmarc.acme.example S`, "S", status)
	}
	rs := c.Records(t.Context(), 1, d)
	if got := statuses(rs); got != want("missing") {
		t.Errorf("before:\n%s", got)
	}
	// Publishing exactly what was asked for must make everything ok, in a
	// server and in a zone file reader that we did not write.
	zone := Zone(rs)
	s.Set(t, zone)
	fresh, _ := dnsx.New(dnsx.Options{Servers: []string{s.Addr()}})
	c = New(Options{Resolver: fresh, Store: c.store, Platform: c.platform})
	if got := statuses(c.Records(t.Context(), 1, d)); got != want("ok") {
		t.Errorf("after:\n%s\nzone:\n%s", got, zone)
	}
	if path, err := exec.LookPath("kzonecheck"); err == nil {
		cmd := exec.Command(path, "-o", "acme.example", "/dev/stdin")
		cmd.Stdin = strings.NewReader("acme.example. 3600 IN SOA ns.acme.example. a.acme.example. 1 2 3 4 5\nacme.example. 3600 IN NS ns.acme.example.\nns.acme.example. 3600 IN A 192.0.2.1\n" + zone)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("kzonecheck: %v\n%s\n%s", err, out, zone)
		}
	}
	s.Fail("", dnsserver.Servfail)
	broken, _ := dnsx.New(dnsx.Options{Servers: []string{s.Addr()}})
	c = New(Options{Resolver: broken, Store: c.store, Platform: c.platform})
	if got := statuses(c.Records(t.Context(), 1, d)); got != want("unknown") {
		t.Errorf("in trouble:\n%s", got)
	}
}

func TestLongTextIsSplit(t *testing.T) {
	got := quoteTXT(strings.Repeat("a", 255) + "b\"\\\x01")
	if want := `"` + strings.Repeat("a", 255) + `" "b\"\\\001"`; got != want {
		t.Errorf("%s", got)
	}
}

func TestKeptResultsAreBounded(t *testing.T) {
	m := newMemo[int, int]()
	for i := range maxKept + 100 {
		m.get(t.Context(), i, func(context.Context) (int, time.Duration, error) { return i, time.Hour, nil })
	}
	if n := m.lru.Len(); n != maxKept {
		t.Errorf("%d kept; want %d", n, maxKept)
	}
}

func FuzzDMARCRecord(f *testing.F) {
	for _, s := range []string{"v=DMARC1; p=none", "v=DMARC1;p=reject;sp=none;np=quarantine;psd=n;adkim=s", "v = DMARC1 ; rua=mailto:a@b", "v=DMARC1;;=;p"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, ok := parseDMARC(s)
		if !ok {
			return
		}
		for _, exists := range []bool{false, true} {
			switch p := r.forBelow(exists); p {
			case tenant.PolicyNone, tenant.PolicyQuarantine, tenant.PolicyReject:
			default:
				t.Errorf("%q: policy %q", s, p)
			}
		}
		if r.policy == "" || r.adkim == "" || r.aspf == "" {
			t.Errorf("%q: %+v", s, r)
		}
	})
}
