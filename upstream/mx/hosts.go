package mx

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"behalf/internal/dnsx"
	"behalf/internal/egress"
	"behalf/mail"
	"behalf/upstream"
)

// host is one exchanger.
type host struct {
	name string
	addr netip.Addr // of an address literal, which needs no look-up
}

// hosts are the exchangers of a domain in the order to try them, or why there
// are none. secure demands that the DNS vouches for them.
func (u *Upstream) hosts(ctx context.Context, domain string, secure bool) ([]host, *mail.Failure) {
	if h, ok := literal(domain); ok {
		return []host{h}, nil
	}
	records, answer, err := u.cfg.Resolver.MX(ctx, domain)
	if err == nil && len(records) == 0 && !answer.NXDomain {
		records = []dnsx.MX{{Host: domain}} // RFC 5321, section 5.1: the implicit MX
	}
	switch {
	case err != nil:
		f := mail.Fail(451, mail.Enhanced{4, 4, 3}, mail.OfDestination, mail.ReasonDNS, "the DNS did not say which hosts take mail for %s", domain)
		f.Stage, f.Err = mail.StageConnect, err
		if errors.Is(ctx.Err(), context.Canceled) {
			f = mail.AsFailure(err)
		}
		return nil, f
	case answer.NXDomain:
		return nil, nobody(550, mail.Enhanced{5, 1, 2}, "the domain "+domain+" does not exist; check the address")
	case len(records) == 1 && records[0].Host == "": // RFC 7505
		return nil, nobody(556, mail.Enhanced{5, 1, 10}, "the domain "+domain+" takes no mail; check the address")
	case secure && !answer.Secure: // RFC 8689, section 4.2.1
		f := mail.Fail(550, mail.Enhanced{5, 7, 30}, mail.OfMessage, mail.ReasonCannotCarry,
			"the sender asked for REQUIRETLS, and the hosts of %s are not protected by DNSSEC", domain)
		f.Stage = mail.StageConnect
		return nil, f
	}
	records = slices.DeleteFunc(slices.Clone(records), func(m dnsx.MX) bool { return m.Host == "" })
	records = u.beforeUs(records)
	if len(records) == 0 {
		return nil, loop("the MX records of " + domain + " lead to ourselves, which do not take mail for it")
	}
	rand.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	slices.SortStableFunc(records, func(a, b dnsx.MX) int { return int(a.Pref) - int(b.Pref) })
	var hs []host
	for _, m := range records[:min(len(records), maxHosts)] {
		hs = append(hs, host{name: m.Host})
	}
	return hs, nil
}

// beforeUs leaves the exchangers that are preferred to ourselves, if we are one
// of them (RFC 5321, section 5.1): the others would hand the message back.
func (u *Upstream) beforeUs(records []dnsx.MX) []dnsx.MX {
	ours := 1 << 16
	for _, m := range records {
		if u.own[lower(m.Host)] {
			ours = min(ours, int(m.Pref))
		}
	}
	return slices.DeleteFunc(records, func(m dnsx.MX) bool { return int(m.Pref) >= ours })
}

func nobody(code int, e mail.Enhanced, text string) *mail.Failure {
	f := mail.Fail(code, e, mail.OfRecipient, mail.ReasonNoDomain, "%s", text)
	f.Stage = mail.StageConnect
	return f
}

func loop(text string) *mail.Failure {
	f := mail.Fail(554, mail.Enhanced{5, 4, 6}, mail.OfRecipient, mail.ReasonLoop, "%s", text)
	f.Stage = mail.StageConnect
	return f
}

// addrs resolves an exchanger.
func (u *Upstream) addrs(ctx context.Context, h host) ([]netip.Addr, *mail.Failure) {
	if h.addr.IsValid() {
		return []netip.Addr{h.addr}, nil
	}
	addrs, _, err := u.cfg.Resolver.Addrs(ctx, h.name)
	if err != nil {
		f := mail.Fail(451, mail.Enhanced{4, 4, 3}, mail.OfDestination, mail.ReasonDNS, "the DNS did not say where %s is", h.name)
		f.Stage, f.Remote, f.Err = mail.StageConnect, h.name, err
		return nil, f
	}
	if len(addrs) == 0 {
		f := mail.Fail(550, mail.Enhanced{5, 4, 4}, mail.OfRecipient, mail.ReasonDNS, "the host %s, which shall take the mail, has no address; check the address", h.name)
		f.Stage, f.Remote, f.Err = mail.StageConnect, h.name, egress.ErrNoAddress
		return nil, f
	}
	return addrs, nil
}

// literal reads a domain such as [192.0.2.1] or [IPv6:2001:db8::1].
func literal(domain string) (host, bool) {
	in, ok := strings.CutPrefix(domain, "[")
	if !ok {
		return host{}, false
	}
	in = strings.TrimSuffix(in, "]")
	if len(in) > 5 && strings.EqualFold(in[:5], "ipv6:") {
		in = in[5:]
	}
	a, err := netip.ParseAddr(in)
	return host{name: a.String(), addr: a}, err == nil
}

// Site names the receiving site of a domain: the organisational domains of its
// exchangers. Domains with one site share its limits. On error it is the domain.
func (u *Upstream) Site(ctx context.Context, domain string) (string, error) {
	if _, ok := literal(domain); ok {
		return domain, nil
	}
	records, _, err := u.cfg.Resolver.MX(ctx, domain)
	if err != nil {
		return domain, err
	}
	var orgs []string
	for _, m := range records {
		if m.Host == "" {
			continue
		}
		orgs = append(orgs, organisation(m.Host))
	}
	if len(orgs) == 0 {
		return domain, nil
	}
	slices.Sort(orgs)
	return strings.Join(slices.Compact(orgs), "+"), nil
}

// organisation is the registered domain above a host name.
func organisation(name string) string {
	if org, err := publicsuffix.EffectiveTLDPlusOne(lower(name)); err == nil {
		return org
	}
	return lower(name)
}

func lower(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }

var _ upstream.Upstream = (*Upstream)(nil)
