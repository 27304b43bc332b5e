package relay_test

import (
	"context"
	"testing"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
	"behalf/relay"
	"behalf/relay/relaytest"
	"behalf/tenant/suppress"
)

// TestSuppressedLater: the planner sees what came onto a list after a message
// was accepted, in its tenant and stream only, and never for mail of our own.
func TestSuppressedLater(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	p := relay.NewPlanner(w.Directory, w.Checker, nil, w.Limits, relay.PlannerOptions{Store: w.Store})
	ctx := context.Background()
	eve := mail.Recipient{Address: mail.Address{Local: "eve", Domain: "there.example"}}
	m := mail.Message{Tenant: 7, Stream: "broadcast", Door: mail.DoorSMTP}
	ask := func(m mail.Message) (string, bool) {
		t.Helper()
		reason, yes, err := p.Suppressed(ctx, &m, &eve)
		if err != nil {
			t.Fatal(err)
		}
		return reason, yes
	}
	if reason, yes := ask(m); yes {
		t.Errorf("on an empty list: %q", reason)
	}
	err := w.Store.Update(ctx, func(tx kv.Writer) error {
		return w.Intake.Lists.Add(tx, 7, suppress.Entry{Stream: "broadcast", Address: "Eve@There.example", Reason: suppress.Unsubscribed, Added: time.Now()})
	})
	if err != nil {
		t.Fatal(err)
	}
	if reason, yes := ask(m); !yes || reason != "unsubscribed" {
		t.Errorf("on the list: %q, %v", reason, yes)
	}
	other, stream, system := m, m, m
	other.Tenant, stream.Stream, system.Door = 8, "transactional", mail.DoorSystem
	for name, m := range map[string]mail.Message{"another tenant": other, "another stream": stream, "mail of our own": system} {
		if reason, yes := ask(m); yes {
			t.Errorf("%s: %q", name, reason)
		}
	}
}
