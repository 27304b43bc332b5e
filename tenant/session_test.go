package tenant_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"behalf/tenant"
)

// anywhere is a client's address where none matters.
var anywhere = netip.MustParseAddr("192.0.2.1")

// TestSessionFollowsItsCredential: what is changed about a credential counts in
// sessions that were opened before.
func TestSessionFollowsItsCredential(t *testing.T) {
	const was = `{"kind":"credential","scope":"platform","name":"app","secret":"platform-secret","tenants":["acme","globex"]`
	for name, c := range map[string]struct {
		now  string
		want error
	}{
		"nothing":                      {was + `}`, nil},
		"another notify address":       {was + `,"notify":"ops@platform.example"}`, nil},
		"a new secret":                 {`{"kind":"credential","scope":"platform","name":"app","secret":"another-secret","tenants":["acme","globex"]}`, tenant.ErrAuth},
		"an end":                       {was + `,"expires":"2000-01-01T01:00:00Z"}`, tenant.ErrAuth},
		"a network it is in":           {was + `,"networks":["192.0.2.0/24"]}`, nil},
		"a network it is not in":       {was + `,"networks":["10.0.0.0/8"]}`, tenant.ErrAuth},
		"the tenant no longer listed":  {`{"kind":"credential","scope":"platform","name":"app","tenants":["globex"]}`, tenant.ErrNotFound},
		"all tenants":                  {`{"kind":"credential","scope":"platform","name":"app","tenants":["*"]}`, nil},
		"a secret of before, repeated": {was + `,"expires":"2000-01-03T00:00:00Z"}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				ctx := context.Background()
				w.must(acme, globex, was+`}`)
				cred, err := w.Authenticate(ctx, "platform/app", "platform-secret")
				if err != nil {
					t.Fatal(err)
				}
				w.must(c.now)
				time.Sleep(2 * time.Hour)
				if _, err := w.ViewFor(ctx, cred, "acme", anywhere); !errors.Is(err, c.want) {
					t.Errorf("%v; want %v", err, c.want)
				}
			})
		})
	}
}
