package relay_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"behalf/mail"
	"behalf/relay/relaytest"
)

// withPlan is the default policies with other numbers in the plan "default".
func withPlan(t testing.TB, from, to string) map[string]string {
	t.Helper()
	files := lowBulk(t)
	if strings.Count(files["data.yaml"], from) != 1 {
		t.Fatalf("data.yaml has %q %d times", from, strings.Count(files["data.yaml"], from))
	}
	files["data.yaml"] = strings.Replace(files["data.yaml"], from, to, 1)
	return files
}

// TestDefaultNewRecipients: who is over the budget of new recipients is held
// until it allows them, for four hours at most; whom the tenant has mailed
// before is never touched.
func TestDefaultNewRecipients(t *testing.T) {
	w := acme(t, relaytest.Options{Rules: withPlan(t, "new_recipients_per_day: 2000", "new_recipients_per_day: 24")}, "")
	app := w.App()
	send := func(i int) (*mail.Recipient, error) {
		w.Offered()
		if _, err := w.Send(app, "app@acme.example", body, fmt.Sprintf("u%d@there.example", i)); err != nil {
			return nil, err
		}
		return &w.Offered()[0].Recipients[0], nil
	}
	begin := time.Now()
	for i := range 24 {
		if r, err := send(i); err != nil || r.State != mail.Queued {
			t.Fatalf("recipient %d: %+v, %v", i, r, err)
		}
	}
	for i := range 4 {
		r, err := send(100 + i)
		if err != nil || r.State != mail.Held {
			t.Fatalf("over by %d: %+v, %v", i, r, err)
		}
		if wait := r.Next.Sub(begin); wait < time.Duration(i)*time.Hour || wait > time.Duration(i+1)*time.Hour+time.Minute {
			t.Errorf("over by %d waits %s", i, wait)
		}
	}
	_, err := send(200)
	wantFailure(t, err, "452 4.7.1")
	for i := range 24 {
		if r, err := send(i); err != nil || r.State != mail.Queued {
			t.Errorf("known recipient %d: %+v, %v", i, r, err)
		}
	}
}

// TestDefaultSites: what is over at one receiver goes out later, for two hours at
// most; other receivers, and broadcast mail over HTTP, have their own count.
func TestDefaultSites(t *testing.T) {
	rules := withPlan(t, "    new_recipients_per_day: 2000\n    recipients_per_hour_each_site: 20000", "    recipients_per_hour_each_site: 3")
	w := acme(t, relaytest.Options{Rules: rules}, "")
	app := w.App()
	due := func(to string) time.Duration {
		t.Helper()
		return time.Until(w.Accepted(app, "app@acme.example", body, to).Recipients[0].Next).Round(time.Minute)
	}
	for i, want := range []time.Duration{0, 0, 0, 20 * time.Minute, 40 * time.Minute, 60 * time.Minute, 80 * time.Minute, 100 * time.Minute, 120 * time.Minute} {
		if got := due(fmt.Sprintf("u%d@mail%d.there.co.uk", i, i%2)); got != want {
			t.Errorf("recipient %d is due in %s, want %s", i, got, want)
		}
	}
	_, err := w.Send(app, "app@acme.example", body, "u@there.co.uk")
	wantFailure(t, err, "452 4.7.1")
	if got := due("u@elsewhere.co.uk"); got != 0 {
		t.Errorf("another receiver is due in %s", got)
	}
}
