package dnsx

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Options of a Client. The zero value asks the servers of /etc/resolv.conf.
type Options struct {
	Servers   []string      // host or host:port, tried in turn
	Timeout   time.Duration // of one exchange; default 5 s
	TrustAD   bool          // trust the AD bit of servers that are not on loopback
	CacheSize int           // octets of answers kept; default 16 MiB, some 100,000 domains
}

// Client is a Resolver that asks recursive servers and keeps their answers.
// Equal questions at one time are asked once.
type Client struct {
	servers []server
	timeout time.Duration
	cache   *cache
	// exchange is one question to one server; tests replace it.
	exchange func(ctx context.Context, q *dns.Msg, addr, network string) (*dns.Msg, error)
}

type server struct {
	addr    string
	trusted bool // its AD bit means something
}

// New makes a Client. It starts nothing.
func New(o Options) (*Client, error) {
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.CacheSize <= 0 {
		o.CacheSize = 16 << 20
	}
	names := o.Servers
	if len(names) == 0 {
		conf, err := dns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil {
			return nil, fmt.Errorf("no resolver is configured and /etc/resolv.conf cannot be read: %w", err)
		}
		for _, s := range conf.Servers {
			names = append(names, net.JoinHostPort(s, conf.Port))
		}
	}
	c := &Client{timeout: o.Timeout, cache: newCache(o.CacheSize), exchange: exchange}
	for _, name := range names {
		s, err := parseServer(name, o.TrustAD)
		if err != nil {
			return nil, err
		}
		c.servers = append(c.servers, s)
	}
	if len(c.servers) == 0 {
		return nil, fmt.Errorf("no resolver is configured and /etc/resolv.conf names none; set resolver.servers")
	}
	return c, nil
}

func parseServer(name string, trust bool) (server, error) {
	host, port, err := net.SplitHostPort(name)
	if err != nil {
		host, port = strings.Trim(name, "[]"), "53"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil && host != "localhost" {
		return server{}, fmt.Errorf("resolver %q: want an IP address, or address:port", name)
	}
	return server{net.JoinHostPort(host, port), trust || host == "localhost" || ip.IsLoopback()}, nil
}

// exchange asks one server once. miekg/dns does not heed the end of ctx by
// itself, so the connection's deadline is pulled in.
func exchange(ctx context.Context, q *dns.Msg, addr, network string) (*dns.Msg, error) {
	cl := dns.Client{Net: network}
	if end, ok := ctx.Deadline(); ok {
		cl.Timeout = max(time.Until(end), time.Millisecond)
	}
	conn, err := cl.DialContext(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	r, _, err := cl.ExchangeWithConnContext(ctx, q, conn)
	return r, err
}

// ask puts one question to the servers in turn, twice round, until one gives an
// answer that settles it. Every failure is temporary.
func (c *Client) ask(ctx context.Context, name string, qtype uint16) (*dns.Msg, bool, error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype) // a random id
	q.SetEdns0(1232, true)
	q.AuthenticatedData = true // RFC 6840, section 5.7: we understand AD
	var last error
	for range 2 {
		for _, s := range c.servers {
			r, err := c.askOne(ctx, q, s.addr)
			if err == nil {
				return r, r.AuthenticatedData && s.trusted, nil
			}
			last = fmt.Errorf("resolver %s: %w", s.addr, err)
			if err := ended(ctx); err != nil {
				return nil, false, c.failed(name, qtype, err)
			}
		}
	}
	return nil, false, c.failed(name, qtype, last)
}

// ended is the error of a context that is over. Connections notice a deadline
// a moment before its context does.
func ended(ctx context.Context) error {
	if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

func (c *Client) failed(name string, qtype uint16, err error) error {
	return fmt.Errorf("%w: %s %s: %w", ErrTemporary, dns.TypeToString[qtype], name, err)
}

// askOne asks one server, by UDP and, if the answer was cut, by TCP.
func (c *Client) askOne(ctx context.Context, q *dns.Msg, addr string) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r, err := c.exchange(ctx, q, addr, "udp")
	if err == nil {
		err = check(q, r)
	}
	if err == nil && r.Truncated {
		if r, err = c.exchange(ctx, q, addr, "tcp"); err == nil {
			err = check(q, r)
		}
		if err == nil && r.Truncated {
			err = fmt.Errorf("cut answer over TCP")
		}
	}
	if err != nil {
		return nil, err
	}
	if r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
		return nil, fmt.Errorf("answered %s", dns.RcodeToString[r.Rcode])
	}
	return r, nil
}

// check makes sure that r answers q: miekg/dns compares the id only.
func check(q, r *dns.Msg) error {
	if r == nil || !r.Response || r.Id != q.Id || len(r.Question) != 1 {
		return fmt.Errorf("not an answer to the question")
	}
	a, b := q.Question[0], r.Question[0]
	if !strings.EqualFold(a.Name, b.Name) || a.Qtype != b.Qtype || a.Qclass != b.Qclass {
		return fmt.Errorf("answered another question")
	}
	return nil
}

// askable reports whether name can be in the DNS as mail writes names: no
// escapes, spaces or control characters.
func askable(name string) bool {
	if name == "" || len(name) > 253 || name[0] == '.' || name[len(name)-1] == '.' {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == '\\' || c == '"' || c == '(' || c == ')' || c == ';' || c == '@' || c == '$' {
			return false
		}
	}
	_, ok := dns.IsDomainName(name)
	return ok
}
