package relay_test

import (
	"context"
	"testing"
	"time"

	"behalf/mail"
	"behalf/relay"
	"behalf/relay/relaytest"
)

// hand is a clock that a test sets.
type hand struct{ now time.Time }

func (h *hand) turn(d time.Duration) { h.now = h.now.Add(d) }

// clocked is a relay with rules of its own and a clock that the test sets.
func clocked(t testing.TB, rules map[string]string) (*relaytest.World, *hand) {
	t.Helper()
	h := &hand{time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)}
	files := map[string]string{}
	for stage, text := range rules {
		files[stage+".rego"] = "package behalf.submission." + stage + "\n" + text
	}
	return acme(t, relaytest.Options{Rules: files, Intake: func(o *relay.Options) { o.Now = func() time.Time { return h.now } }}, ""), h
}

// begun is a transaction of acme's that has begun.
func begun(w *relaytest.World) relay.Transaction {
	w.T.Helper()
	tx, err := w.Intake.Begin(context.Background(), w.App(), relaytest.Client(), mail.Envelope{From: relaytest.Address(w.T, "app@acme.example")}, 0)
	if err != nil {
		w.T.Fatal(err)
	}
	return tx
}

func rcpt(w *relaytest.World, tx relay.Transaction, to string) error {
	w.T.Helper()
	return tx.Recipient(context.Background(), mail.Recipient{Address: relaytest.Address(w.T, to)})
}

// TestMaxTransaction: half an hour after it began a transaction takes nothing any
// more, and gives back what it reserved.
func TestMaxTransaction(t *testing.T) {
	ctx := context.Background()
	write := func(tx relay.Transaction) error {
		_, err := tx.Write([]byte(relaytest.CRLF(body)))
		return err
	}
	for name, c := range map[string]struct {
		before, after func(w *relaytest.World, tx relay.Transaction) error
	}{
		"RCPT":    {nil, func(w *relaytest.World, tx relay.Transaction) error { return rcpt(w, tx, "b@there.example") }},
		"content": {nil, func(_ *relaytest.World, tx relay.Transaction) error { return write(tx) }},
		"end": {func(_ *relaytest.World, tx relay.Transaction) error { return write(tx) },
			func(_ *relaytest.World, tx relay.Transaction) error { _, err := tx.Commit(ctx); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			w, clock := clocked(t, map[string]string{"sender": rate("recipients", 1, 1, "")})
			tx := begun(w)
			if err := rcpt(w, tx, "a@there.example"); err != nil {
				t.Fatal(err)
			}
			clock.turn(relay.MaxTransaction - time.Second)
			if c.before != nil {
				if err := c.before(w, tx); err != nil {
					t.Fatal(err)
				}
			}
			clock.turn(time.Second)
			wantFailure(t, c.after(w, tx), "421 4.4.2")
			if name != "end" {
				tx.Abort()
			}
			w.Accepted(w.App(), "app@acme.example", body, "a@there.example")
		})
	}
}

// TestCountedNow: what a transaction takes is counted at the time at which it
// takes it, not at that of its beginning, which is the message's.
func TestCountedNow(t *testing.T) {
	const third = `limit contains {"rule":"l","key":["tenant",input.tenant.id],"count":"recipients","rate":3,"per":"1h","burst":3}` + "\n"
	w, clock := clocked(t, map[string]string{"recipient": third})
	began := clock.now
	tx := begun(w)
	clock.turn(25 * time.Minute)
	for _, to := range []string{"a@there.example", "b@there.example", "c@there.example"} {
		if err := rcpt(w, tx, to); err != nil {
			t.Fatal(err)
		}
	}
	_, err := w.Send(w.App(), "app@acme.example", body, "d@there.example")
	wantFailure(t, err, "452 4.7.1") // three have gone this very moment
	if _, err := tx.Write([]byte(relaytest.CRLF(body))); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(context.Background()); err != nil {
		t.Fatal(err)
	}
	st := w.Offered()[0]
	if !st.Message.Accepted.Equal(began) {
		t.Errorf("accepted at %s, want %s", st.Message.Accepted, began)
	}
	clock.turn(50 * time.Minute)
	all, own, err := w.Usage.Get(t.Context(), st.Message.Tenant, "acme/app", clock.now)
	if err != nil || all.Hour.Messages != 1 || own.Hour.Recipients != 3 {
		t.Errorf("the last hour: %+v, %+v, %v", all.Hour, own.Hour, err)
	}
}

// TestUsageMeanwhile: a transaction that waits sees what others sent meanwhile.
func TestUsageMeanwhile(t *testing.T) {
	const seen = `warn contains {"rule": "u", "reason": sprintf("%d messages", [input.usage["1h"].messages])}` + "\n"
	w, clock := clocked(t, map[string]string{"message": seen, "sender": `deny contains {"rule": "never", "reason": "x"} if input.usage["1h"].messages > 100` + "\n"})
	tx := begun(w)
	if err := rcpt(w, tx, "a@there.example"); err != nil {
		t.Fatal(err)
	}
	clock.turn(time.Minute)
	w.Accepted(w.App(), "app@acme.example", body, "b@there.example")
	clock.turn(time.Minute)
	if _, err := tx.Write([]byte(relaytest.CRLF(body))); err != nil {
		t.Fatal(err)
	}
	r, err := tx.Commit(context.Background())
	if err != nil || len(r.Warnings) != 1 || r.Warnings[0] != "1 messages" {
		t.Errorf("%q, %v", r.Warnings, err)
	}
}
