package relay_test

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"behalf/internal/dnsx"
	"behalf/relay"
	"behalf/relay/relaytest"
)

// names is a DNS of addresses and their names.
type names struct {
	*relaytest.DNS
	addrs map[string][]string
	ptr   map[string][]string
	down  bool
	slow  time.Duration
	asked int
}

func (n *names) answer(ctx context.Context) error {
	n.asked++
	select {
	case <-time.After(n.slow):
	case <-ctx.Done():
		return dnsx.ErrTemporary
	}
	if n.down {
		return dnsx.ErrTemporary
	}
	return nil
}

func (n *names) Addrs(ctx context.Context, name string) (list []netip.Addr, _ dnsx.Answer, err error) {
	for _, a := range n.addrs[name] {
		list = append(list, netip.MustParseAddr(a))
	}
	return list, dnsx.Answer{}, n.answer(ctx)
}

func (n *names) PTR(ctx context.Context, a netip.Addr) ([]string, dnsx.Answer, error) {
	return n.ptr[a.String()], dnsx.Answer{}, n.answer(ctx)
}

const host = "relay.platform.example"

// TestReverseDNS: every address that is sent from must have a name that leads
// back to it.
func TestReverseDNS(t *testing.T) {
	for name, c := range map[string]struct {
		addrs, ptr map[string][]string
		sources    []string
		want       bool
	}{
		"in order":                    {map[string][]string{host: {"192.0.2.1"}}, map[string][]string{"192.0.2.1": {host}}, nil, true},
		"no address":                  {nil, nil, nil, false},
		"no name":                     {map[string][]string{host: {"192.0.2.1"}}, nil, nil, false},
		"another's name":              {map[string][]string{host: {"192.0.2.1"}, "pool.example": {"192.0.2.9"}}, map[string][]string{"192.0.2.1": {"pool.example"}}, nil, false},
		"one of two names":            {map[string][]string{host: {"192.0.2.1"}}, map[string][]string{"192.0.2.1": {"pool.example", host + "."}}, nil, true},
		"one of two addresses":        {map[string][]string{host: {"192.0.2.1", "2001:db8::1"}}, map[string][]string{"192.0.2.1": {host}}, nil, false},
		"a source with its own name":  {map[string][]string{"out1.example": {"192.0.2.7"}}, map[string][]string{"192.0.2.7": {"out1.example"}}, []string{"192.0.2.7"}, true},
		"one of two sources":          {map[string][]string{host: {"192.0.2.7"}}, map[string][]string{"192.0.2.7": {host}}, []string{"192.0.2.7", "192.0.2.8"}, false},
		"private sources say nothing": {map[string][]string{host: {"192.0.2.1"}}, map[string][]string{"192.0.2.1": {host}}, []string{"10.0.0.5"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var sources []netip.Addr
			for _, s := range c.sources {
				sources = append(sources, netip.MustParseAddr(s))
			}
			r := relay.NewReverseDNS(&names{addrs: c.addrs, ptr: c.ptr}, host, sources, nil)
			if got := r.Confirmed(t.Context()); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// TestReverseDNSKeepsItsAnswer for ten minutes, and while the DNS fails; a
// message waits a second at most, and only one does.
func TestReverseDNSKeepsItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &names{addrs: map[string][]string{host: {"192.0.2.1"}}, ptr: map[string][]string{}, down: true}
		r := relay.NewReverseDNS(n, host, nil, nil)
		ask := func(want bool, why string) {
			t.Helper()
			if got := r.Confirmed(t.Context()); got != want {
				t.Errorf("%s: %v", why, got)
			}
		}
		ask(true, "nothing is known yet")
		n.down = false
		ask(true, "a failed question is not asked again at once")
		time.Sleep(31 * time.Second)
		ask(false, "there is no name")
		n.ptr["192.0.2.1"] = []string{host}
		asked := n.asked
		ask(false, "the answer holds")
		if n.asked != asked {
			t.Error("asked again")
		}
		time.Sleep(10*time.Minute + time.Second)
		ask(true, "the name is there now")
		time.Sleep(10*time.Minute + time.Second)
		n.slow = time.Hour
		begin := time.Now()
		waits := make(chan struct{})
		go func() { r.Confirmed(context.Background()); close(waits) }()
		synctest.Wait()
		ask(true, "another has the old answer")
		if time.Since(begin) != 0 {
			t.Error("the other waited too")
		}
		<-waits
		if d := time.Since(begin); d > time.Second {
			t.Errorf("waited %s", d)
		}
	})
}
