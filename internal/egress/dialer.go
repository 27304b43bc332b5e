package egress

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"time"
)

// The pace of connecting (RFC 8305): the next address is tried beside the
// former ones after the stagger, or at once when one of them failed.
const (
	stagger     = 300 * time.Millisecond
	maxAddrs    = 8 // of a host, so that a long list does not hold an attempt
	defaultWait = 15 * time.Second
)

// Dialer connects to hosts through the guard.
type Dialer struct {
	Guard *Guard // nil: a zero Guard
	// Lookup resolves a name; it is not asked for address literals.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Sources are local addresses to connect from. For each Target.Key one of
	// the right family is always the same, as greylisting wants it.
	Sources []netip.Addr
	Timeout time.Duration // for one address; 0: 15 s
}

// Target is a host to connect to.
type Target struct {
	Host   string       // a name or an address; only told in errors when Addrs are given
	Addrs  []netip.Addr // already resolved
	Port   uint16
	Origin Origin
	Key    string // picks the source address; empty: Host
}

// ErrNoAddress is wrapped when a name has no address.
var ErrNoAddress = errors.New("the name has no address")

// Dial connects to the first address of t that answers, IPv6 and IPv4 in turn.
// When every address is refused by the guard the error is a *Forbidden.
func (d *Dialer) Dial(ctx context.Context, t Target) (net.Conn, error) {
	addrs, err := d.resolve(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("finding the address of %s: %w", t.Host, err)
	}
	guard := d.Guard
	if guard == nil {
		guard = &Guard{}
	}
	var open []netip.AddrPort
	var denied error
	for _, a := range addrs {
		ap := netip.AddrPortFrom(a, t.Port)
		if err := guard.Check(t.Origin, ap); err != nil {
			denied = err
			continue
		}
		open = append(open, ap)
	}
	if len(open) == 0 {
		if denied == nil {
			denied = ErrNoAddress
		}
		return nil, fmt.Errorf("connecting to %s: %w", t.Host, denied)
	}
	key := t.Key
	if key == "" {
		key = t.Host
	}
	r := race{ctx: ctx, addrs: inTurn(open), dial: func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
		return d.dialOne(ctx, guard, t.Origin, key, a)
	}}
	conn, err := r.run()
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", t.Host, err)
	}
	return conn, nil
}

func (d *Dialer) resolve(ctx context.Context, t Target) ([]netip.Addr, error) {
	if len(t.Addrs) > 0 {
		return t.Addrs, nil
	}
	if a, err := netip.ParseAddr(t.Host); err == nil {
		return []netip.Addr{a}, nil
	}
	if d.Lookup == nil {
		return nil, errors.New("no resolver is configured")
	}
	return d.Lookup(ctx, t.Host)
}

func (d *Dialer) dialOne(ctx context.Context, g *Guard, o Origin, key string, a netip.AddrPort) (net.Conn, error) {
	wait := d.Timeout
	if wait == 0 {
		wait = defaultWait
	}
	nd := net.Dialer{Timeout: wait, ControlContext: g.Control(o)}
	if src := d.source(key, a.Addr()); src.IsValid() {
		nd.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(src, 0))
	}
	return nd.DialContext(ctx, "tcp", a.String())
}

// source picks the local address for key among those of dst's family.
func (d *Dialer) source(key string, dst netip.Addr) netip.Addr {
	var fit []netip.Addr
	for _, s := range d.Sources {
		if s.Unmap().Is4() == dst.Unmap().Is4() {
			fit = append(fit, s)
		}
	}
	if len(fit) == 0 {
		return netip.Addr{}
	}
	h := fnv.New32a()
	h.Write([]byte(key))
	return fit[h.Sum32()%uint32(len(fit))]
}

// inTurn orders addresses IPv6, IPv4, IPv6, … and cuts the list.
func inTurn(addrs []netip.AddrPort) []netip.AddrPort {
	var six, four, out []netip.AddrPort
	for _, a := range addrs {
		if a.Addr().Unmap().Is4() {
			four = append(four, a)
		} else {
			six = append(six, a)
		}
	}
	for len(six)+len(four) > 0 && len(out) < maxAddrs {
		if len(six) > 0 {
			out, six = append(out, six[0]), six[1:]
		}
		if len(four) > 0 && len(out) < maxAddrs {
			out, four = append(out, four[0]), four[1:]
		}
	}
	return out
}

// race dials addresses beside each other and keeps the first connection.
type race struct {
	ctx   context.Context
	addrs []netip.AddrPort
	dial  func(context.Context, netip.AddrPort) (net.Conn, error)
}

type finish struct {
	conn net.Conn
	err  error
}

// run returns once every dial it began has ended.
func (r race) run() (net.Conn, error) {
	if len(r.addrs) == 1 {
		return r.dial(r.ctx, r.addrs[0])
	}
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	done := make(chan finish)
	tick := time.NewTimer(stagger)
	defer tick.Stop()
	var won net.Conn
	var errs []error
	next, running := 0, 0
	start := func() {
		a := r.addrs[next]
		next, running = next+1, running+1
		tick.Reset(stagger)
		go func() {
			c, err := r.dial(ctx, a)
			done <- finish{c, err}
		}()
	}
	start()
	for running > 0 {
		select {
		case <-tick.C:
			if won == nil && next < len(r.addrs) {
				start()
			}
		case f := <-done:
			running--
			switch {
			case f.err != nil:
				errs = append(errs, f.err)
				if won == nil && ctx.Err() == nil && next < len(r.addrs) {
					start()
				}
			case won == nil:
				won = f.conn
				cancel()
			default:
				f.conn.Close()
			}
		}
	}
	if won != nil {
		return won, nil
	}
	return nil, errors.Join(errs...)
}
