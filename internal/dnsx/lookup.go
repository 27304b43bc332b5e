package dnsx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Bounds of what is taken from an answer, whatever a server sends.
const (
	maxChain   = 8        // CNAMEs followed
	maxRecords = 64       // of one type
	maxText    = 32 << 10 // octets of TXT in all
)

// Bounds of how long an answer is kept.
const (
	minTTL   = 5 * time.Second
	maxTTL   = time.Hour
	maxNoTTL = time.Minute     // for "there is none": a record just published must be seen soon
	errTTL   = 3 * time.Second // so that a storm of messages does not become one of questions
)

// result is one looked-up record set.
type result struct {
	Answer
	txt   []string
	mx    []MX
	addrs []netip.Addr
	names []string // PTR, or the CNAME
	err   error
}

// TXT implements Resolver.
func (c *Client) TXT(ctx context.Context, name string) ([]string, Answer, error) {
	r, err := c.get(ctx, name, dns.TypeTXT)
	return slices.Clone(r.txt), r.Answer, err
}

// MX implements Resolver.
func (c *Client) MX(ctx context.Context, name string) ([]MX, Answer, error) {
	r, err := c.get(ctx, name, dns.TypeMX)
	return slices.Clone(r.mx), r.Answer, err
}

// Addrs implements Resolver. If only one of AAAA and A can be had, that is the
// answer; the other is asked again soon.
func (c *Client) Addrs(ctx context.Context, name string) ([]netip.Addr, Answer, error) {
	if _, err := netip.ParseAddr(name); err == nil {
		return nil, Answer{NXDomain: true}, nil // an address is not a name
	}
	var four result
	var err4 error
	var wait sync.WaitGroup
	wait.Go(func() { four, err4 = c.get(ctx, name, dns.TypeA) })
	six, err6 := c.get(ctx, name, dns.TypeAAAA)
	wait.Wait()
	switch {
	case err6 != nil && (err4 != nil || len(four.addrs) == 0):
		return nil, Answer{}, errors.Join(err6, err4)
	case err4 != nil && len(six.addrs) == 0:
		return nil, Answer{}, err4
	case err6 != nil:
		four.Secure, four.TTL = false, errTTL
		return slices.Clone(four.addrs), four.Answer, nil
	case err4 != nil:
		six.Secure, six.TTL = false, errTTL
		return slices.Clone(six.addrs), six.Answer, nil
	}
	return slices.Concat(six.addrs, four.addrs), Answer{
		NXDomain: four.NXDomain,
		Secure:   six.Secure && four.Secure,
		TTL:      min(six.TTL, four.TTL),
	}, nil
}

// CNAME implements Resolver.
func (c *Client) CNAME(ctx context.Context, name string) (string, Answer, error) {
	r, err := c.get(ctx, name, dns.TypeCNAME)
	if len(r.names) == 0 {
		return "", r.Answer, err
	}
	return r.names[0], r.Answer, err
}

// PTR implements Resolver.
func (c *Client) PTR(ctx context.Context, addr netip.Addr) ([]string, Answer, error) {
	name, err := dns.ReverseAddr(addr.Unmap().WithZone("").String())
	if err != nil {
		return nil, Answer{NXDomain: true}, nil
	}
	r, err := c.get(ctx, strings.TrimSuffix(name, "."), dns.TypePTR)
	return slices.Clone(r.names), r.Answer, err
}

// get answers from the cache or asks. A name that cannot be in the DNS does
// not exist.
func (c *Client) get(ctx context.Context, name string, qtype uint16) (result, error) {
	name = strings.ToLower(name)
	if !askable(name) {
		return result{Answer: Answer{NXDomain: true, TTL: maxNoTTL}}, nil
	}
	r := c.cache.get(ctx, key{name, qtype}, func() result { return c.resolve(ctx, name, qtype) })
	return r, r.err
}

// resolve asks for one record set and follows CNAMEs: within an answer, and by
// asking again when the answer ends with one.
func (c *Client) resolve(ctx context.Context, name string, qtype uint16) result {
	r := result{Answer: Answer{Secure: true, TTL: maxTTL}}
	for range maxChain {
		m, secure, err := c.ask(ctx, name, qtype)
		if err != nil {
			return result{err: err}
		}
		r.Secure = r.Secure && secure
		next, found := r.take(m, name, qtype)
		if found || next == "" || m.Rcode == dns.RcodeNameError {
			r.NXDomain = m.Rcode == dns.RcodeNameError && !found
			if !found {
				r.TTL = min(r.TTL, negativeTTL(m), maxNoTTL)
			}
			r.TTL = max(r.TTL, minTTL)
			return r
		}
		name = next
	}
	return result{err: fmt.Errorf("%w: %s %s: more than %d aliases", ErrTemporary, dns.TypeToString[qtype], name, maxChain)}
}

// take adds the records of m for name, or for what it is an alias of. Without
// any, next is the alias to ask for.
func (r *result) take(m *dns.Msg, name string, qtype uint16) (next string, found bool) {
	owner := dns.Fqdn(name)
	for range maxChain + 1 {
		alias := ""
		for _, rr := range m.Answer {
			h := rr.Header()
			if !strings.EqualFold(h.Name, owner) || h.Class != dns.ClassINET {
				continue
			}
			if h.Rrtype == qtype {
				found = true
				r.TTL = min(r.TTL, time.Duration(h.Ttl)*time.Second)
				r.add(rr)
			} else if c, ok := rr.(*dns.CNAME); ok && alias == "" {
				alias = c.Target
				r.TTL = min(r.TTL, time.Duration(h.Ttl)*time.Second)
			}
		}
		if found {
			slices.SortStableFunc(r.mx, func(a, b MX) int { return cmp.Compare(a.Pref, b.Pref) })
			return "", true
		}
		if alias == "" || strings.EqualFold(alias, owner) {
			break
		}
		owner = alias
	}
	if next = plain(owner); next == strings.ToLower(name) || !askable(next) {
		next = ""
	}
	return next, false
}

// add keeps one record, within the bounds.
func (r *result) add(rr dns.RR) {
	if len(r.txt)+len(r.mx)+len(r.addrs)+len(r.names) >= maxRecords {
		return
	}
	switch rr := rr.(type) {
	case *dns.TXT:
		s := unescape(strings.Join(rr.Txt, ""))
		if r.size()+len(s) <= maxText {
			r.txt = append(r.txt, s)
		}
	case *dns.MX:
		r.mx = append(r.mx, MX{rr.Preference, plain(rr.Mx)})
	case *dns.A:
		if ip, ok := netip.AddrFromSlice(rr.A); ok {
			r.addrs = append(r.addrs, ip.Unmap())
		}
	case *dns.AAAA:
		if ip, ok := netip.AddrFromSlice(rr.AAAA); ok {
			r.addrs = append(r.addrs, ip)
		}
	case *dns.PTR:
		r.names = append(r.names, plain(rr.Ptr))
	case *dns.CNAME:
		r.names = append(r.names, plain(rr.Target))
	}
}

// size is about how much memory the result holds, in octets.
func (r *result) size() int {
	n := 64 + 24*len(r.addrs)
	for _, s := range r.txt {
		n += 16 + len(s)
	}
	for _, m := range r.mx {
		n += 24 + len(m.Host)
	}
	for _, s := range r.names {
		n += 16 + len(s)
	}
	return n
}

func plain(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// negativeTTL is how long "there is none" holds (RFC 2308, section 5).
func negativeTTL(m *dns.Msg) time.Duration {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return time.Duration(min(soa.Hdr.Ttl, soa.Minttl)) * time.Second
		}
	}
	return time.Minute
}

// unescape undoes the escapes (\", \\, \DDD) that miekg/dns puts into the
// strings of TXT records.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b = append(b, s[i])
			continue
		}
		if d := s[i+1:]; len(d) >= 3 && digit(d[0]) && digit(d[1]) && digit(d[2]) {
			b = append(b, byte(int(d[0]-'0')*100+int(d[1]-'0')*10+int(d[2]-'0')))
			i += 3
			continue
		}
		i++
		b = append(b, s[i])
	}
	return string(b)
}

func digit(c byte) bool { return '0' <= c && c <= '9' }
