package egress

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestGuardByAddress(t *testing.T) {
	for _, c := range []struct {
		addr string
		open bool
	}{
		{"8.8.8.8", true}, {"1.1.1.1", true}, {"192.0.1.1", true}, {"100.63.255.255", true}, {"100.128.0.1", true},
		{"172.15.0.1", true}, {"172.32.0.1", true}, {"2606:4700::1111", true}, {"2a00:1450::1a", true},
		{"127.0.0.1", false}, {"127.9.9.9", false}, {"0.0.0.0", false}, {"0.1.2.3", false}, {"10.1.2.3", false},
		{"100.64.0.1", false}, {"169.254.169.254", false}, {"172.16.0.1", false}, {"172.31.255.255", false},
		{"192.168.1.1", false}, {"192.0.0.8", false}, {"192.0.2.1", false}, {"198.18.0.1", false}, {"198.19.255.255", false},
		{"198.51.100.1", false}, {"203.0.113.9", false}, {"224.0.0.1", false}, {"239.1.1.1", false}, {"255.255.255.255", false},
		{"192.88.99.1", false}, {"240.0.0.1", false},
		{"::", false}, {"::1", false}, {"fe80::1", false}, {"fe80::1%eth0", false}, {"fc00::1", false}, {"fd00:ec2::254", false},
		{"ff02::1", false}, {"2001:db8::1", false}, {"3fff::1", false}, {"2001::1", false}, {"100::1", false}, {"5f00::1", false},
		{"::ffff:127.0.0.1", false}, {"::ffff:8.8.8.8", false}, {"::127.0.0.1", false},
		{"64:ff9b::8.8.8.8", true}, {"64:ff9b::127.0.0.1", false}, {"64:ff9b::10.0.0.1", false}, {"64:ff9b:1::1", false},
		{"2002:808:808::1", true}, {"2002:7f00:1::1", false}, {"2002:a00:1::", false}, {"2002:a9fe:a9fe::1", false},
	} {
		a := netip.AddrPortFrom(netip.MustParseAddr(c.addr), 25)
		for _, o := range []Origin{FromTenant, FromDNS} {
			if err := (&Guard{}).Check(o, a); (err == nil) != c.open {
				t.Errorf("Check(%d, %s) = %v, want open=%v", o, c.addr, err, c.open)
			}
		}
		if err := (&Guard{}).Check(FromAdmin, a); err != nil {
			t.Errorf("an admin's %s is refused: %v", c.addr, err)
		}
	}
}

func TestGuardAllowsWhatTheOperatorAllows(t *testing.T) {
	g := &Guard{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.1/32")}}
	for addr, open := range map[string]bool{
		"10.1.2.3:9": true, "127.0.0.1:40000": true, "[::ffff:127.0.0.1]:1": true, "127.0.0.2:25": false, "192.168.0.1:25": false,
	} {
		if err := g.Check(FromTenant, netip.MustParseAddrPort(addr)); (err == nil) != open {
			t.Errorf("Check(%s) = %v, want open=%v", addr, err, open)
		}
	}
}

func TestGuardByPort(t *testing.T) {
	for port, open := range map[uint16]bool{25: true, 465: true, 587: true, 2465: true, 2525: true, 2587: true, 22: false, 80: false, 6379: false, 0: false} {
		a := netip.AddrPortFrom(netip.MustParseAddr("8.8.8.8"), port)
		if err := (&Guard{}).Check(FromTenant, a); (err == nil) != open {
			t.Errorf("a tenant's port %d: %v, want open=%v", port, err, open)
		}
		if err := (&Guard{}).Check(FromDNS, a); err != nil {
			t.Errorf("our own port %d is refused: %v", port, err)
		}
	}
}

// FuzzUnreachable checks that no disguise of a private IPv4 address passes.
func FuzzUnreachable(f *testing.F) {
	f.Add([]byte{127, 0, 0, 1}, uint8(0))
	f.Add([]byte{10, 0, 0, 1}, uint8(1))
	f.Add([]byte{169, 254, 169, 254}, uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, form uint8) {
		if len(b) != 4 {
			return
		}
		v4 := netip.AddrFrom4([4]byte(b))
		var in [16]byte
		switch form % 3 {
		case 0:
			in = v4.As16()
		case 1:
			in[1], in[2], in[3] = 0x64, 0xff, 0x9b
			copy(in[12:], b)
		case 2:
			in[0], in[1] = 0x20, 0x02
			copy(in[2:], b)
		}
		if unreachable(v4) != "" && unreachable(netip.AddrFrom16(in)) == "" {
			t.Errorf("%s passes as %s", v4, netip.AddrFrom16(in))
		}
	})
}

func listen(t *testing.T) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func TestDialerIsGuardedAfterLookup(t *testing.T) {
	l := listen(t)
	lookup := func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{l.Addr()}, nil }
	d := &Dialer{Lookup: lookup}
	if _, err := d.Dial(t.Context(), Target{Host: "rebind.test", Port: l.Port(), Origin: FromDNS}); !IsForbidden(err) {
		t.Errorf("a name that leads to loopback: %v, want Forbidden", err)
	}
	if _, err := d.Dial(t.Context(), Target{Host: "127.0.0.1", Port: l.Port()}); !IsForbidden(err) {
		t.Errorf("a literal: %v, want Forbidden", err)
	}
	c, err := d.Dial(t.Context(), Target{Host: "smtp.test", Port: l.Port(), Origin: FromAdmin})
	if err != nil {
		t.Fatal("an admin's host:", err)
	}
	c.Close()
	// The check stands below the dialer too, where a net.Dialer resolves itself.
	nd := net.Dialer{ControlContext: (&Guard{}).Control(FromDNS)}
	if _, err := nd.DialContext(t.Context(), "tcp", l.String()); !IsForbidden(err) {
		t.Errorf("Control: %v, want Forbidden", err)
	}
}

func TestDialerTriesEveryAddress(t *testing.T) {
	l := listen(t)
	d := &Dialer{Guard: &Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}
	c, err := d.Dial(t.Context(), Target{Host: "smtp.test", Port: l.Port(), Addrs: []netip.Addr{
		netip.MustParseAddr("10.255.255.1"), netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	_, err = d.Dial(t.Context(), Target{Host: "smtp.test", Port: l.Port(), Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")}})
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestDialerHasASource(t *testing.T) {
	l := listen(t)
	d := &Dialer{Sources: []netip.Addr{netip.MustParseAddr("127.0.0.7"), netip.MustParseAddr("127.0.0.8"), netip.MustParseAddr("::1")}}
	seen := map[string]bool{}
	for _, key := range []string{"a", "a", "b", "c", "d"} {
		c, err := d.Dial(t.Context(), Target{Host: "127.0.0.1", Port: l.Port(), Origin: FromAdmin, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		from := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr()
		if from != d.source(key, from) {
			t.Errorf("key %s left from %s", key, from)
		}
		seen[from.String()] = true
		c.Close()
	}
	if len(seen) != 2 {
		t.Errorf("sources used: %v", seen)
	}
}

// TestRace: a silent address does not hold the others, and every dial ends.
func TestRace(t *testing.T) { synctest.Test(t, testRace) }

func testRace(t *testing.T) {
	a, b := netip.MustParseAddrPort("[2606::1]:25"), netip.MustParseAddrPort("8.8.8.8:25")
	ended := make(chan bool, 1)
	here, there := net.Pipe()
	defer there.Close()
	began := time.Now()
	conn, err := race{ctx: t.Context(), addrs: inTurn([]netip.AddrPort{b, a}), dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		if to == a {
			<-ctx.Done()
			ended <- true
			return nil, ctx.Err()
		}
		return here, nil
	}}.run()
	if err != nil || conn != here {
		t.Fatal(conn, err)
	}
	conn.Close()
	if took := time.Since(began); took != stagger {
		t.Errorf("took %v", took)
	}
	select {
	case <-ended:
	default:
		t.Error("the loser still runs")
	}
}
