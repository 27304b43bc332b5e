package relay_test

import (
	"context"
	"testing"
	"time"

	"behalf/relay"
	"behalf/relay/relaytest"
)

// While delivery is behind, those who bring the work are slowed down, and a
// tenant with a message now and then is not.
func TestOnlyWhoBringsTheWorkIsSlowedDown(t *testing.T) {
	now := time.Now()
	w := acme(t, relaytest.Options{Intake: func(o *relay.Options) { o.Now = func() time.Time { return now } }}, "")
	const secret = "bhf_globex-secret-0123456789-0123456789-0123456789"
	w.Apply(`{"kind":"tenant","name":"globex","allow_from_change":true}`, `{"kind":"credential","tenant":"globex","name":"app","secret":"`+secret+`"}`)
	waits := 0
	w.Intake.Wait = func(context.Context) { waits++ }
	for range 20 {
		w.Accepted(w.App(), "app@acme.example", body, "bob@there.example")
	}
	if waits != 20 {
		t.Errorf("%d of 20 messages of the noisy tenant wait", waits)
	}
	w.Accepted(w.Login("globex/app", secret), "app@globex.example", "From: app@globex.example\n\nHello\n", "eve@there.example")
	if waits != 20 {
		t.Error("the other tenant's message waits")
	}
}
