package dnsx

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// scripted is a Client whose servers answer from a function.
func scripted(size int, answer func(q *dns.Msg) *dns.Msg) *Client {
	return &Client{
		servers: []server{{addr: "192.0.2.53:53"}},
		timeout: time.Second,
		cache:   newCache(size),
		exchange: func(ctx context.Context, q *dns.Msg, _, _ string) (*dns.Msg, error) {
			return answer(q), nil
		},
	}
}

func reply(q *dns.Msg, records ...string) *dns.Msg {
	r := new(dns.Msg).SetReply(q)
	for _, s := range records {
		rr, err := dns.NewRR(s)
		if err != nil {
			panic(err)
		}
		r.Answer = append(r.Answer, rr)
	}
	return r
}

func TestTimeToLiveIsKeptWithinBounds(t *testing.T) {
	for _, tt := range []struct {
		ttl        int
		want, over time.Duration
	}{
		{0, minTTL, 0},
		{60, time.Minute, 0},
		{1 << 30, maxTTL, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			c := scripted(1<<20, func(q *dns.Msg) *dns.Msg {
				asked++
				return reply(q, fmt.Sprintf("x.example. %d TXT a", tt.ttl))
			})
			c.TXT(t.Context(), "x.example")
			time.Sleep(tt.want - time.Millisecond)
			_, a, _ := c.TXT(t.Context(), "x.example")
			if asked != 1 || a.TTL != time.Millisecond {
				t.Errorf("TTL %d: asked %d times within %v, %v left", tt.ttl, asked, tt.want, a.TTL)
			}
			time.Sleep(2 * time.Millisecond)
			if c.TXT(t.Context(), "x.example"); asked != 2 {
				t.Errorf("TTL %d: not asked again after %v", tt.ttl, tt.want)
			}
		})
	}
}

func TestAliasIsAskedForWhereTheAnswerEnds(t *testing.T) {
	c := scripted(1<<20, func(q *dns.Msg) *dns.Msg {
		switch q.Question[0].Name {
		case "a.example.":
			return reply(q, "a.example. 60 CNAME b.example.", "b.example. 60 CNAME c.example.")
		case "c.example.":
			return reply(q, "c.example. 10 TXT here", "other.example. 60 TXT stray")
		}
		return reply(q)
	})
	got, a, err := c.TXT(t.Context(), "a.example")
	if err != nil || len(got) != 1 || got[0] != "here" || a.TTL != 10*time.Second {
		t.Errorf("%q, %+v, %v", got, a, err)
	}
}

func TestADBitOfAForeignServerIsNotTrusted(t *testing.T) {
	answer := func(q *dns.Msg) *dns.Msg {
		r := reply(q, "x.example. 60 TXT a")
		r.AuthenticatedData = true
		return r
	}
	for _, trust := range []bool{false, true} {
		c := scripted(1<<20, answer)
		s, err := parseServer("192.0.2.53", trust)
		if err != nil {
			t.Fatal(err)
		}
		c.servers = []server{s}
		if _, a, _ := c.TXT(t.Context(), "x.example"); a.Secure != trust {
			t.Errorf("trust_ad %v: secure %v", trust, a.Secure)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	const most = 1 << 20
	big := strings.Repeat("x", 250)
	asked := 0
	c := scripted(most, func(q *dns.Msg) *dns.Msg {
		asked++
		n := q.Question[0].Name
		return reply(q, n+" 60 TXT "+strings.Repeat(" "+big, 3))
	})
	before := heap()
	for i := range 20_000 {
		c.TXT(t.Context(), fmt.Sprintf("n%d.example", i))
	}
	took := heap() - before
	runtime.KeepAlive(c)
	if took > most || len(c.cache.flying) != 0 {
		t.Errorf("%d octets more; %d under way", took, len(c.cache.flying))
	}
	asked = 0
	for i := 20_000 - 500; i < 20_000; i++ {
		c.TXT(t.Context(), fmt.Sprintf("n%d.example", i))
	}
	if asked > 100 {
		t.Errorf("of 500 that were just asked for %d are asked again", asked)
	}
}

// As many domains as a busy platform mails in an hour are kept, in a few pieces.
func TestManyDomainsAreKept(t *testing.T) {
	const domains, size = 100_000, 16 << 20
	before := heap()
	c := newCache(size)
	at := func(i int) key { return key{fmt.Sprintf("d%06d.example", i), dns.TypeMX} }
	for i := range domains {
		c.put(at(i), result{Answer: Answer{TTL: time.Hour}, mx: []MX{{10, "mx1." + at(i).name}, {20, "mx2." + at(i).name}}})
	}
	took := heap() - before
	missing := 0
	for i := range domains {
		if r, ok := c.find(at(i)); !ok || len(r.mx) != 2 || r.mx[1].Host != "mx2."+at(i).name {
			missing++
		}
	}
	if missing > domains/100 || took > 2*size {
		t.Errorf("%d of %d domains are missing; the others are kept in %d octets", missing, domains, took)
	}
}

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// A failure out of the cache is told apart like the first.
func TestFailureIsKept(t *testing.T) {
	c := scripted(1<<20, func(*dns.Msg) *dns.Msg { return new(dns.Msg) })
	_, _, first := c.MX(t.Context(), "x.example")
	_, _, second := c.MX(t.Context(), "x.example")
	var kept keptError
	if !errors.Is(first, ErrTemporary) || !errors.Is(second, ErrTemporary) || !errors.As(second, &kept) || first.Error() != second.Error() {
		t.Errorf("%v, then %v", first, second)
	}
}

func TestPackedResult(t *testing.T) {
	for _, r := range []result{
		{},
		{Answer: Answer{NXDomain: true}},
		{Answer: Answer{Secure: true}, mx: []MX{{0, ""}}},
		{mx: []MX{{10, "a.example"}, {65535, strings.Repeat("b", 253)}}},
		{txt: []string{"", strings.Repeat("long ", 5000), "\x00\xff"}, names: []string{"alias.example"}},
		{addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::ffff:192.0.2.1")}},
	} {
		if got := unpack(packed(r.pack(nil))); !reflect.DeepEqual(got, r) {
			t.Errorf("%+v became %+v", r, got)
		}
	}
}

// Whatever octets a server sends that parse as a message, taking them neither
// panics nor exceeds the bounds.
func FuzzTake(f *testing.F) {
	q := new(dns.Msg).SetQuestion("x.example.", dns.TypeTXT)
	for _, m := range []*dns.Msg{reply(q, "x.example. 60 TXT a"), reply(q, "x.example. 60 CNAME y.example."), reply(q, "x.example. 60 MX 0 .")} {
		b, _ := m.Pack()
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m dns.Msg
		if m.Unpack(b) != nil {
			return
		}
		for _, qtype := range []uint16{dns.TypeTXT, dns.TypeMX, dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypePTR} {
			r := result{Answer: Answer{TTL: maxTTL}}
			r.take(&m, "x.example", qtype)
			if len(r.txt)+len(r.mx)+len(r.addrs)+len(r.names) > maxRecords || r.TTL < 0 {
				t.Fatalf("%+v", r)
			}
			r.TTL = 0
			if got := unpack(packed(r.pack(nil))); !reflect.DeepEqual(got, r) {
				t.Fatalf("%+v became %+v", r, got)
			}
		}
	})
}
