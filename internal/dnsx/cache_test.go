package dnsx

import (
	"context"
	"fmt"
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
			c := scripted(100, func(q *dns.Msg) *dns.Msg {
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
	c := scripted(100, func(q *dns.Msg) *dns.Msg {
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
		c := scripted(100, answer)
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
	big := strings.Repeat("x", 250)
	c := scripted(64, func(q *dns.Msg) *dns.Msg {
		n := q.Question[0].Name
		return reply(q, n+" 60 TXT "+strings.Repeat(" "+big, 16))
	})
	for i := range 1000 {
		c.TXT(t.Context(), fmt.Sprintf("n%d.example", i))
		if c.cache.used > 64 || c.cache.lru.Len() > 64 {
			t.Fatalf("%d KiB in %d entries; want at most 64", c.cache.used, c.cache.lru.Len())
		}
	}
	if c.cache.lru.Len() < 10 || len(c.cache.flying) != 0 {
		t.Errorf("%d entries, %d under way", c.cache.lru.Len(), len(c.cache.flying))
	}
	for range 10 { // the same name again and again does not add up
		c.cache.mu.Lock()
		c.cache.put(key{"same.example", dns.TypeTXT}, result{Answer: Answer{TTL: time.Second}})
		c.cache.mu.Unlock()
	}
	sum := 0
	for _, e := range c.cache.lru.Values() {
		sum += e.weight()
	}
	if sum != c.cache.used {
		t.Errorf("counted %d, holds %d", c.cache.used, sum)
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
		}
	})
}
