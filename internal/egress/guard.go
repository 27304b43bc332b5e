// Package egress decides which hosts may be reached from here, and reaches
// them. A host that a tenant or the DNS of an outsider named leads to public
// unicast addresses only, besides the networks that the operator allows; the
// check is made on the address that is connected to, after every look-up, so
// that a name which changes its mind between two look-ups gains nothing.
package egress

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// Origin says who named a host, and so what it may lead to.
type Origin uint8

// The origins.
const (
	FromTenant Origin = iota // public addresses, and the ports of mail submission
	FromDNS                  // public addresses; the port is ours
	FromAdmin                // anything
)

// Guard refuses addresses that outsiders must not reach through us. The zero
// Guard allows public addresses only.
type Guard struct {
	// Allow are networks that may be reached besides public ones, at any port.
	Allow []netip.Prefix
}

// Forbidden is the error of a refused address.
type Forbidden struct {
	Addr netip.AddrPort
	Why  string
}

func (f *Forbidden) Error() string {
	return fmt.Sprintf("connecting to %s is forbidden: %s", f.Addr, f.Why)
}

// IsForbidden reports whether the guard refused.
func IsForbidden(err error) bool {
	var f *Forbidden
	return errors.As(err, &f)
}

// Check gives a *Forbidden if a host named by origin must not lead to a.
func (g *Guard) Check(origin Origin, a netip.AddrPort) error {
	if origin == FromAdmin || g.allows(a.Addr()) {
		return nil
	}
	if why := unreachable(a.Addr()); why != "" {
		return &Forbidden{a, why}
	}
	if origin == FromTenant && !slices.Contains(tenantPorts[:], a.Port()) {
		return &Forbidden{a, "the port is none of mail submission (25, 465, 587, 2465, 2525, 2587)"}
	}
	return nil
}

// Control is a check for the ControlContext of a net.Dialer, which sees the
// address after resolution.
func (g *Guard) Control(origin Origin) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("checking the address %q: %w", address, err)
		}
		return g.Check(origin, a)
	}
}

func (g *Guard) allows(a netip.Addr) bool {
	a = a.Unmap()
	return slices.ContainsFunc(g.Allow, func(p netip.Prefix) bool { return p.Contains(a) })
}

var tenantPorts = [...]uint16{25, 465, 587, 2465, 2525, 2587}

// special is what the IANA registries of special-purpose addresses (RFC 6890)
// and of multicast take out of the unicast space, with the reason in words.
var special = []struct {
	net netip.Prefix
	why string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "it means this host"},
	{netip.MustParsePrefix("10.0.0.0/8"), "it is private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "it is shared by a carrier's customers"},
	{netip.MustParsePrefix("127.0.0.0/8"), "it is loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "it is link-local"},
	{netip.MustParsePrefix("172.16.0.0/12"), "it is private"},
	{netip.MustParsePrefix("192.0.0.0/24"), "it is reserved for protocols"},
	{netip.MustParsePrefix("192.0.2.0/24"), "it is for documentation"},
	{netip.MustParsePrefix("192.88.99.0/24"), "it is a 6to4 relay"},
	{netip.MustParsePrefix("192.168.0.0/16"), "it is private"},
	{netip.MustParsePrefix("198.18.0.0/15"), "it is for benchmarks"},
	{netip.MustParsePrefix("198.51.100.0/24"), "it is for documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "it is for documentation"},
	{netip.MustParsePrefix("224.0.0.0/4"), "it is multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "it is reserved"},
	{netip.MustParsePrefix("2001::/23"), "it is reserved for protocols"},
	{netip.MustParsePrefix("2001:db8::/32"), "it is for documentation"},
	{netip.MustParsePrefix("3fff::/20"), "it is for documentation"},
}

var (
	nat64  = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
	sixto4 = netip.MustParsePrefix("2002::/16")    // RFC 3056
	global = netip.MustParsePrefix("2000::/3")     // all that IANA gave out
)

// unreachable says why a is no public unicast address; "" if it is one.
func unreachable(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "it is no address"
	case a.Zone() != "":
		return "it has a zone"
	case a.Is4In6():
		return "it is an IPv4 address in disguise"
	case a.Is6() && nat64.Contains(a):
		return unreachable(embedded(a, 12))
	case a.Is6() && !global.Contains(a):
		return "it is outside the public IPv6 space"
	}
	for _, s := range special {
		if s.net.Contains(a) {
			return s.why
		}
	}
	if sixto4.Contains(a) {
		return unreachable(embedded(a, 2))
	}
	return ""
}

// embedded is the IPv4 address in octets i to i+3 of a.
func embedded(a netip.Addr, i int) netip.Addr {
	b := a.As16()
	return netip.AddrFrom4([4]byte(b[i : i+4]))
}
