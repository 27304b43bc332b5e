package smarthost

import (
	"net/netip"
	"testing"

	"behalf/internal/egress"
	"behalf/upstream"
	"behalf/upstream/upstreamtest"
)

func TestConformance(t *testing.T) {
	upstreamtest.RunSMTP(t, func(t *testing.T, at netip.AddrPort) upstream.Upstream {
		return open(t, Config{Host: at.Addr().String(), Port: int(at.Port()), Security: "none"})
	})
}

// open makes an upstream for a host that an admin named.
func open(t testing.TB, cfg Config) *Upstream {
	t.Helper()
	cfg.Hello, cfg.Origin = "behalf.test", egress.FromAdmin
	if cfg.Dialer == nil {
		cfg.Dialer = &egress.Dialer{}
	}
	u, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}
