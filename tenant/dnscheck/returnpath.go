package dnscheck

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"blitiri.com.ar/go/spf"

	"behalf/internal/dnsx"
)

// path is what is known of a return-path host.
type path struct {
	healthy bool
	detail  string
}

// ReturnPath reports whether mail to the return-path host comes here (its MX is
// the inbound host) and its SPF record passes every egress of ours, whatever
// aliases lead there. The error is temporary; an earlier answer outlives it for
// a day. The detail is a sentence with what was found and what is expected.
func (c *Checker) ReturnPath(ctx context.Context, host string) (healthy bool, detail string, err error) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	p, err, known := c.paths.known(host)
	if !known {
		p, err = c.pathOf(ctx, host)
	}
	if err != nil {
		return false, "the DNS could not be asked for " + host, err
	}
	return p.healthy, p.detail, nil
}

func (c *Checker) pathOf(ctx context.Context, host string) (path, error) {
	return c.paths.get(ctx, host, func(ctx context.Context) (path, time.Duration, error) { return c.lookPath(ctx, host) })
}

func (c *Checker) lookPath(ctx context.Context, host string) (path, time.Duration, error) {
	m, life, err := c.checkMX(ctx, host)
	if err != nil {
		return path{}, 0, err
	}
	life = clamp(life, 5*time.Second, 15*time.Minute)
	if m.status != OK {
		return path{false, fmt.Sprintf("%s MX: %s; expected: %s", host, m.found, m.expected)}, min(life, time.Minute), nil
	}
	s, spfLife, err := c.checkSPF(ctx, host)
	if err != nil {
		return path{}, 0, err
	}
	life = min(life, clamp(spfLife, 5*time.Second, 15*time.Minute))
	if s.status != OK {
		return path{false, fmt.Sprintf("%s TXT: %s; expected: %s", host, s.found, s.expected)}, min(life, time.Minute), nil
	}
	return path{true, host + " leads here and its SPF record covers our addresses"}, life, nil
}

// state is what a record should be and is.
type state struct {
	status   Status
	found    string
	expected string
}

func (c *Checker) checkMX(ctx context.Context, host string) (state, time.Duration, error) {
	s := state{expected: "10 " + c.platform.InboundHost + "."}
	mx, ans, err := c.dns.MX(ctx, host)
	switch {
	case err != nil:
		return s, 0, fmt.Errorf("looking up the MX of %s: %w", host, err)
	case ans.NXDomain:
		s.status, s.found = Missing, "no such name"
	case len(mx) == 0:
		s.status, s.found = Missing, "no MX record"
	default:
		var hosts []string
		for _, m := range mx {
			hosts = append(hosts, fmt.Sprintf("%d %s.", m.Pref, m.Host))
		}
		s.status, s.found = Wrong, strings.Join(hosts, ", ")
		if slices.ContainsFunc(mx, func(m dnsx.MX) bool { return m.Host == c.platform.InboundHost }) {
			s.status = OK
		}
	}
	return s, ans.TTL, nil
}

// checkSPF demands one SPF record under which each of our egress addresses
// passes (RFC 7208).
func (c *Checker) checkSPF(ctx context.Context, host string) (state, time.Duration, error) {
	s := state{expected: "v=spf1 " + c.platform.SPF + " ~all"}
	txt, ans, err := c.dns.TXT(ctx, host)
	if err != nil {
		return s, 0, fmt.Errorf("looking up the TXT of %s: %w", host, err)
	}
	var records []string
	for _, t := range txt {
		if f := strings.Fields(t); len(f) > 0 && strings.EqualFold(f[0], "v=spf1") {
			records = append(records, t)
		}
	}
	switch len(records) {
	case 0:
		s.status, s.found = Missing, "no SPF record"
		return s, ans.TTL, nil
	case 1:
	default:
		s.status, s.found = Wrong, "several SPF records, where only one may be"
		return s, ans.TTL, nil
	}
	missed, err := c.missed(ctx, host, records[0])
	if err != nil {
		return s, 0, err
	}
	s.status, s.found = OK, records[0]
	if missed != "" {
		s.status, s.found = Wrong, fmt.Sprintf("%q, which does not cover %s", cut(records[0]), missed)
	}
	return s, ans.TTL, nil
}

// missed is the first of our egress mechanisms that the record of host does not
// cover; empty if it covers all.
func (c *Checker) missed(ctx context.Context, host, record string) (string, error) {
	terms := strings.Fields(strings.ToLower(record))
	for _, mech := range strings.Fields(strings.ToLower(c.platform.SPF)) {
		mech = strings.TrimPrefix(mech, "+")
		if slices.Contains(terms, mech) || slices.Contains(terms, "+"+mech) || strings.HasSuffix(mech, "all") || strings.HasPrefix(mech, "v=") {
			continue
		}
		addrs, err := c.egress(ctx, mech)
		if err != nil {
			return "", err
		}
		if len(addrs) == 0 {
			return mech, nil
		}
		for _, ip := range addrs {
			res, err := spf.CheckHostWithSender(ip.AsSlice(), host, "bounce@"+host, spf.WithContext(ctx), spf.WithResolver(resolver{c.dns}))
			if res == spf.TempError {
				return "", fmt.Errorf("evaluating the SPF record of %s: %w", host, errors.Join(dnsx.ErrTemporary, err))
			}
			if res != spf.Pass {
				return ip.String(), nil
			}
		}
	}
	return "", nil
}

// egress is addresses that stand for a mechanism: the ends of a network, all
// of a host.
func (c *Checker) egress(ctx context.Context, mech string) ([]netip.Addr, error) {
	kind, value, _ := strings.Cut(mech, ":")
	switch kind {
	case "ip4", "ip6":
		if ip, err := netip.ParseAddr(value); err == nil {
			return []netip.Addr{ip}, nil
		}
		p, err := netip.ParsePrefix(value)
		if err != nil {
			return nil, nil
		}
		return []netip.Addr{p.Masked().Addr(), lastOf(p)}, nil
	case "a":
		addrs, _, err := c.dns.Addrs(ctx, value)
		return addrs, err
	}
	return nil, nil
}

// lastOf is the highest address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	ip, _ := netip.AddrFromSlice(b)
	return ip
}

// resolver lends a dnsx.Resolver to the SPF library.
type resolver struct{ dns dnsx.Resolver }

func answer(name string, n int, err error) error {
	if err != nil {
		return &net.DNSError{Err: err.Error(), Name: name, IsTemporary: true}
	}
	if n == 0 {
		return &net.DNSError{Err: "no such record", Name: name, IsNotFound: true}
	}
	return nil
}

func (r resolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	txt, _, err := r.dns.TXT(ctx, strings.TrimSuffix(name, "."))
	return txt, answer(name, len(txt), err)
}

func (r resolver) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	mx, _, err := r.dns.MX(ctx, strings.TrimSuffix(name, "."))
	var out []*net.MX
	for _, m := range mx {
		out = append(out, &net.MX{Host: m.Host + ".", Pref: m.Pref})
	}
	return out, answer(name, len(out), err)
}

func (r resolver) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	addrs, _, err := r.dns.Addrs(ctx, strings.TrimSuffix(host, "."))
	var out []net.IPAddr
	for _, a := range addrs {
		out = append(out, net.IPAddr{IP: a.AsSlice()})
	}
	return out, answer(host, len(out), err)
}

func (r resolver) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return nil, answer(addr, 0, nil)
	}
	names, _, err := r.dns.PTR(ctx, ip)
	return names, answer(addr, len(names), err)
}
