package dnsx_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"behalf/internal/dnsx"
	"behalf/internal/testkit/dnsserver"
)

const zone = `
example.            MX  20 mx2.example.
example.            MX  10 MX1.Example.
example.            TXT "v=spf1 " "mx -all"
example.            TXT "a \"quoted\" \\ text \195\164"
mx1.example.        A     192.0.2.1
mx1.example.        AAAA  2001:db8::1
four.example.       A     192.0.2.4
null.example.       MX  0 .
alias.example.      CNAME alias2.example.
alias2.example.     CNAME mx1.example.
dangling.example.   CNAME gone.example.
loop1.example.      CNAME loop2.example.
loop2.example.      CNAME loop1.example.
a.deep.example.     TXT "below"
1.2.0.192.in-addr.arpa. PTR mx1.example.
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR mx1.example.
`

func newClient(t testing.TB, o dnsx.Options) *dnsx.Client {
	t.Helper()
	c, err := dnsx.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func start(t *testing.T, zone string) (*dnsserver.Server, *dnsx.Client) {
	t.Helper()
	s := dnsserver.Start(t, zone)
	return s, newClient(t, dnsx.Options{Servers: []string{s.Addr()}, Timeout: 5 * time.Second})
}

func TestAnswers(t *testing.T) {
	_, c := start(t, zone)
	ctx := context.Background()
	ip := netip.MustParseAddr
	txt := func(name string) (any, dnsx.Answer, error) { return wrap(c.TXT(ctx, name)) }
	mx := func(name string) (any, dnsx.Answer, error) { return wrap(c.MX(ctx, name)) }
	addrs := func(name string) (any, dnsx.Answer, error) { return wrap(c.Addrs(ctx, name)) }
	cname := func(name string) (any, dnsx.Answer, error) { return wrap(c.CNAME(ctx, name)) }
	ptr := func(a string) (any, dnsx.Answer, error) { return wrap(c.PTR(ctx, ip(a))) }
	for _, tt := range []struct {
		what string
		ask  func(string) (any, dnsx.Answer, error)
		name string
		want any
		nx   bool
	}{
		{"strings of a record are joined, escapes undone", txt, "example", []string{"v=spf1 mx -all", `a "quoted" \ text ä`}, false},
		{"names are compared without case", txt, "EXAMPLE", []string{"v=spf1 mx -all", `a "quoted" \ text ä`}, false},
		{"MX by preference, lower case", mx, "example", []dnsx.MX{{Pref: 10, Host: "mx1.example"}, {Pref: 20, Host: "mx2.example"}}, false},
		{"null MX", mx, "null.example", []dnsx.MX{{}}, false},
		{"both families", addrs, "mx1.example", []netip.Addr{ip("2001:db8::1"), ip("192.0.2.1")}, false},
		{"one family", addrs, "four.example", []netip.Addr{ip("192.0.2.4")}, false},
		{"through aliases", addrs, "alias.example", []netip.Addr{ip("2001:db8::1"), ip("192.0.2.1")}, false},
		{"alias itself", cname, "alias.example", "alias2.example", false},
		{"no alias", cname, "example", "", false},
		{"alias of nothing", addrs, "dangling.example", []netip.Addr(nil), true},
		{"no such name", mx, "nowhere.example", []dnsx.MX(nil), true},
		{"name without such records", mx, "four.example", []dnsx.MX(nil), false},
		{"empty non-terminal exists", txt, "deep.example", []string(nil), false},
		{"PTR of IPv4", ptr, "192.0.2.1", []string{"mx1.example"}, false},
		{"PTR of mapped IPv4", ptr, "::ffff:192.0.2.1", []string{"mx1.example"}, false},
		{"PTR of IPv6", ptr, "2001:db8::1", []string{"mx1.example"}, false},
		{"PTR of nothing", ptr, "192.0.2.9", []string(nil), true},
		{"an address is no name", addrs, "192.0.2.1", []netip.Addr(nil), true},
		{"empty name", txt, "", []string(nil), true},
		{"space in the name", txt, "a b.example", []string(nil), true},
		{"line end in the name", txt, "a\r\n.example", []string(nil), true},
		{"escape in the name", txt, `a\.example`, []string(nil), true},
		{"empty label", txt, "a..example", []string(nil), true},
		{"label over 63", txt, strings.Repeat("a", 64) + ".example", []string(nil), true},
	} {
		got, ans, err := tt.ask(tt.name)
		if err != nil || !reflect.DeepEqual(got, tt.want) || ans.NXDomain != tt.nx {
			t.Errorf("%s: %q = %q, NXDomain %v, %v; want %q, %v", tt.what, tt.name, got, ans.NXDomain, err, tt.want, tt.nx)
		}
	}
}

func wrap[T any](v T, a dnsx.Answer, err error) (any, dnsx.Answer, error) { return v, a, err }

func TestFaultsAreTemporary(t *testing.T) {
	s := dnsserver.Start(t, zone)
	c := newClient(t, dnsx.Options{Servers: []string{s.Addr()}, Timeout: 300 * time.Millisecond})
	for f, name := range map[dnsserver.Fault]string{
		dnsserver.Servfail: "servfail.example",
		dnsserver.Refused:  "refused.example",
		dnsserver.Silent:   "silent.example",
		dnsserver.Lie:      "lie.example",
		dnsserver.Garbage:  "garbage.example",
	} {
		s.Fail(name, f)
		if v, a, err := c.TXT(context.Background(), name); !errors.Is(err, dnsx.ErrTemporary) {
			t.Errorf("%s: %q, %+v, %v; want ErrTemporary", name, v, a, err)
		}
	}
	if _, _, err := c.TXT(context.Background(), "loop1.example"); !errors.Is(err, dnsx.ErrTemporary) {
		t.Errorf("alias loop: %v; want ErrTemporary", err)
	}
}

func TestCutAnswerIsAskedAgainOverTCP(t *testing.T) {
	var many strings.Builder
	for i := range 40 {
		fmt.Fprintf(&many, "big.example. TXT \"%02d%s\"\n", i, strings.Repeat("x", 200))
	}
	s, c := start(t, many.String())
	got, _, err := c.TXT(context.Background(), "big.example")
	if err != nil || len(got) != 40 {
		t.Fatalf("%d records, %v; want 40", len(got), err)
	}
	want := []dnsserver.Query{{Name: "big.example", Type: "TXT"}, {Name: "big.example", Type: "TXT", TCP: true}}
	if log := s.Log(); !slices.Equal(log, want) {
		t.Errorf("asked %v; want %v", log, want)
	}
}

func TestWhatAServerSendsIsBounded(t *testing.T) {
	var many strings.Builder
	for i := range 500 {
		fmt.Fprintf(&many, "many.example. MX %d mx%d.example.\n", i, i)
	}
	for i := range 200 {
		fmt.Fprintf(&many, "text.example. TXT \"%03d%s\" \"%s\"\n", i, strings.Repeat("x", 120), strings.Repeat("y", 130))
	}
	_, c := start(t, many.String())
	mx, _, err := c.MX(context.Background(), "many.example")
	if err != nil || len(mx) != 64 {
		t.Errorf("%d MX, %v; want 64", len(mx), err)
	}
	txt, _, err := c.TXT(context.Background(), "text.example")
	if n := len(strings.Join(txt, "")); err != nil || n == 0 || n > 32<<10 {
		t.Errorf("%d octets of TXT, %v; want at most 32 KiB", n, err)
	}
}

func TestNextServerIsTried(t *testing.T) {
	bad, good := dnsserver.Start(t, zone), dnsserver.Start(t, zone)
	bad.Fail("", dnsserver.Servfail)
	c := newClient(t, dnsx.Options{Servers: []string{bad.Addr(), good.Addr()}, Timeout: 5 * time.Second})
	if mx, _, err := c.MX(context.Background(), "example"); err != nil || len(mx) != 2 {
		t.Errorf("%v, %v", mx, err)
	}
}

func TestADBitCountsFromLoopbackOnly(t *testing.T) {
	s, c := start(t, zone)
	if _, a, _ := c.TXT(context.Background(), "example"); a.Secure {
		t.Error("secure without the AD bit")
	}
	s.Secure(true)
	if _, a, _ := c.MX(context.Background(), "example"); !a.Secure {
		t.Error("not secure with the AD bit of a server on loopback")
	}
}

func TestAnswersAreKept(t *testing.T) {
	s, c := start(t, zone)
	ctx := context.Background()
	for range 3 {
		c.TXT(ctx, "example")
		c.TXT(ctx, "none.example")
	}
	if log := s.Log(); len(log) != 2 {
		t.Errorf("asked %v; want each name once", log)
	}
	got, _, _ := c.TXT(ctx, "example")
	got[0] = "changed"
	if again, _, _ := c.TXT(ctx, "example"); again[0] == "changed" {
		t.Error("a caller can change what is kept")
	}
	s.Fail("bad.example", dnsserver.Servfail)
	c.TXT(ctx, "bad.example")
	s.Log()
	c.TXT(ctx, "bad.example")
	if log := s.Log(); len(log) != 0 {
		t.Errorf("a failure was asked again at once: %v", log)
	}
}

func TestEqualQuestionsAreAskedOnce(t *testing.T) {
	s, c := start(t, zone)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if mx, _, err := c.MX(context.Background(), "example"); err != nil || len(mx) != 2 {
				t.Errorf("%v, %v", mx, err)
			}
		})
	}
	wg.Wait()
	if log := s.Log(); len(log) != 1 {
		t.Errorf("asked %d times; want once", len(log))
	}
}

func TestCallerWhoGivesUpEndsSoonAndHarmsNobody(t *testing.T) {
	s := dnsserver.Start(t, zone)
	c := newClient(t, dnsx.Options{Servers: []string{s.Addr()}, Timeout: 20 * time.Second})
	s.Fail("slow.example", dnsserver.Silent)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, _, err := c.TXT(ctx, "slow.example"); !errors.Is(err, dnsx.ErrTemporary) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v; want ErrTemporary and the context's error", err)
	}
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
	s.Fail("slow.example", dnsserver.None)
	if _, a, err := c.TXT(context.Background(), "slow.example"); err != nil || !a.NXDomain {
		t.Errorf("afterwards: %+v, %v; the giving up was kept as an answer", a, err)
	}
}

func TestServersOfTheConfiguration(t *testing.T) {
	for _, bad := range []string{"dns.example", "300.1.1.1", ""} {
		if _, err := dnsx.New(dnsx.Options{Servers: []string{bad}}); err == nil {
			t.Errorf("%q was taken as a resolver", bad)
		}
	}
	for _, good := range []string{"127.0.0.1", "127.0.0.1:5353", "::1", "[::1]:53", "localhost:53"} {
		if _, err := dnsx.New(dnsx.Options{Servers: []string{good}}); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

func BenchmarkCachedTXT(b *testing.B) {
	s := dnsserver.Start(b, zone)
	c := newClient(b, dnsx.Options{Servers: []string{s.Addr()}})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := c.TXT(context.Background(), "example"); err != nil {
			b.Fatal(err)
		}
	}
}
