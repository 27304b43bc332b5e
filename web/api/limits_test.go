package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
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

// TestSharedLimitEvents: of a limit that a tenant shares with others, it hears
// that it reached it, and not how much others use: in the feed and in the trace
// of its message. An administrator sees all.
func TestSharedLimitEvents(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	id := w.send("acme-secret", "acme", nil)
	about := func(kind mail.EventType, percent int, used int64) mail.Event {
		return mail.Event{At: time.Now(), Type: kind, Message: id, Tenant: id.Tenant(), Limit: &mail.LimitEvent{Rule: "organisation.rego:month", Key: []string{"organisation", "umbrella"},
			Count: "messages", Rate: 1000, Per: "24h0m0s", Used: used, Allowed: 1000, Percent: percent, Reset: time.Now().Add(time.Hour), Shared: true}}
	}
	err := w.spool.Update(t.Context(), func(tx kv.Writer) error {
		return w.spool.Append(tx, about(mail.EventLimitWarning, 75, 759), about(mail.EventLimitReached, 100, 1000))
	})
	if err != nil {
		t.Fatal(err)
	}
	feed := func(key string) (all []mail.Event) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.server.URL+"/v1/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set("Last-Event-ID", "0")
		resp, err := w.server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
			if data, ok := strings.CutPrefix(sc.Text(), "data: "); ok {
				var e mail.Event
				if err := json.Unmarshal([]byte(data), &e); err != nil {
					t.Fatal(err)
				}
				if all = append(all, e); e.Type == mail.EventLimitReached { // the last
					return all
				}
			}
		}
		t.Fatal("the stream ended")
		return nil
	}
	for key, want := range map[string]string{
		"acme-secret": "limit.reached used 0, reset false",
		adminKey:      "limit.warning used 759, reset true, limit.reached used 1000, reset true",
	} {
		for place, events := range map[string][]mail.Event{
			"feed":     feed(key),
			"message":  into[api.Message](t, w.get(key, "/v1/messages/"+id.String()).want(t, http.StatusOK)).Events,
			"timeline": into[api.Timeline](t, w.get(key, "/v1/messages/"+id.String()+"/events").want(t, http.StatusOK)).Items,
		} {
			var told []string
			for _, e := range events {
				if e.Limit != nil {
					told = append(told, fmt.Sprintf("%s used %d, reset %t", e.Type, e.Limit.Used, !e.Limit.Reset.IsZero()))
				}
			}
			if got := strings.Join(told, ", "); got != want {
				t.Errorf("%s, %s: %s", key, place, got)
			}
		}
	}
}
