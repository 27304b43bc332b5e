package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"behalf/web/api"
)

// TestLimits: what a tenant is told of its limits, at submission and when it
// asks.
func TestLimits(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	w.customer("globex")
	w.send("globex-secret", "globex", nil)
	a := w.post("acme-secret", "/v1/messages", draft("acme", "guest@elsewhere.example")).want(t, http.StatusAccepted)
	policy, now := a.header.Get("RateLimit-Policy"), a.header.Get("RateLimit")
	if !strings.Contains(policy, `"credential-messages";q=`) || !strings.Contains(now, `"credential-messages";r=`) || strings.Count(policy, ";w=") != strings.Count(now, ";t=") {
		t.Errorf("RateLimit-Policy %s\nRateLimit %s", policy, now)
	}
	got := into[api.TenantLimits](t, w.get("acme-secret", "/v1/tenants/acme/limits").want(t, http.StatusOK))
	binding := 0
	for _, l := range got.Items {
		if l.Binding {
			binding++
		}
		if l.Used == nil || *l.Used != 1 || *l.Used+*l.Remaining != l.Burst || l.Shared || l.Refused != 0 {
			t.Errorf("%+v", l)
		}
	}
	if len(got.Items) == 0 || binding != 1 || !got.Items[0].Binding {
		t.Errorf("%d limits, of which %d bind", len(got.Items), binding)
	}
	if s := fmt.Sprint(got); strings.Contains(s, "globex") {
		t.Errorf("acme is told of globex: %s", s)
	}
	w.get("acme-secret", "/v1/tenants/globex/limits").want(t, http.StatusNotFound)
	w.get(adminKey, "/v1/tenants/nobody/limits").want(t, http.StatusNotFound)
}
