package relay_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"behalf/internal/blob"
	"behalf/mail"
	"behalf/relay"
	"behalf/relay/relaytest"
)

const keyed = "Behalf-Idempotency-Key: order-17\n" + body

// TestIdempotency: one key, one message; the second submission is told of the
// first, and a different one is refused.
func TestIdempotency(t *testing.T) {
	w := ruled(t, map[string]string{"sender": rate("messages", 1, 2, "")}, "")
	app := w.App()
	first, err := w.Send(app, "app@acme.example", keyed, "bob@there.example", "eve@there.example")
	if err != nil || first.Repeated {
		t.Fatal(first, err)
	}
	again, err := w.Send(app, "app@acme.example", keyed, "eve@there.example", "bob@there.example")
	if err != nil || !again.Repeated || again.ID != first.ID || again.MessageID != first.MessageID {
		t.Errorf("%+v, %v; want %+v again", again, err, first)
	}
	if n := len(w.Offered()); n != 1 {
		t.Errorf("%d messages handed on", n)
	}
	_, err = w.Send(app, "app@acme.example", keyed, "bob@there.example", "carol@there.example")
	wantFailure(t, err, "550 5.5.4")
	_, err = w.Send(app, "sales@acme.example", keyed, "bob@there.example")
	wantFailure(t, err, "550 5.5.4")
	// None of them used up the limit of two messages.
	if _, err := w.Send(app, "app@acme.example", body, "bob@there.example"); err != nil {
		t.Error(err)
	}
}

// TestIdempotencyWhenLimitsChange: whether the same is asked for again does not
// hang on what limits let pass, and nobody is told of a delivery that is none.
func TestIdempotencyWhenLimitsChange(t *testing.T) {
	ctx := context.Background()
	w, clock := clocked(t, map[string]string{"recipient": `limit contains {"rule":"l","key":["tenant",input.tenant.id],"count":"recipients","rate":2,"per":"1h","burst":2}` + "\n"})
	send := func(to ...string) (relay.Receipt, int, error) {
		t.Helper()
		tx := begun(w)
		taken := 0
		for _, a := range to {
			if rcpt(w, tx, a) == nil {
				taken++
			}
		}
		if taken == 0 {
			tx.Abort()
			return relay.Receipt{}, 0, nil
		}
		if _, err := tx.Write([]byte(relaytest.CRLF(keyed))); err != nil {
			t.Fatal(err)
		}
		r, err := tx.Commit(ctx)
		return r, taken, err
	}
	again := func(first relay.Receipt, want int, to ...string) {
		t.Helper()
		r, taken, err := send(to...)
		if err != nil || taken != want || !r.Repeated || r.ID != first.ID {
			t.Errorf("%d taken, %+v, %v; want %d, %s again", taken, r, err, want, first.ID)
		}
	}
	first, taken, err := send("a@there.example", "b@there.example", "c@there.example")
	if err != nil || taken != 2 {
		t.Fatal(taken, err)
	}
	clock.turn(30 * time.Minute) // the limit has room for one
	again(first, 1, "a@there.example", "b@there.example", "c@there.example")
	again(first, 1, "b@there.example") // the one that was put off
	clock.turn(time.Hour)
	if _, _, err := send("c@there.example", "a@there.example", "b@there.example"); !strings.Contains(wantFailure(t, err, "550 5.5.4").Text, "not for c@there.example;") {
		t.Error(err)
	}
	if _, _, err := send("c@there.example"); err == nil {
		t.Error("who is new was told of the first message")
	}
	if n := len(w.Offered()); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// TestIdempotencyWithoutLimits: a request by HTTP that is known is answered
// though the sender's limit is used up, and names whom the first did not take.
func TestIdempotencyWithoutLimits(t *testing.T) {
	w := ruled(t, map[string]string{"sender": rate("messages", 1, 1, ""),
		"recipient": `deny contains {"rule":"no","reason":"no"} if input.recipient.address == "no@there.example"` + "\n"}, "")
	app := w.App()
	send := func(hash byte) (relay.Receipt, error) {
		s := submission("app@acme.example", body, relay.Hints{IdempotencyKey: "k"}, "bob@there.example", "no@there.example")
		s.Hash = func() [32]byte { return [32]byte{hash} }
		return w.Intake.Accept(context.Background(), app, relaytest.Client(), s)
	}
	first, err := send(1)
	if err != nil || len(first.Refused) != 1 {
		t.Fatal(first, err)
	}
	_, err = w.Send(app, "app@acme.example", body, "bob@there.example")
	wantFailure(t, err, "452 4.7.1")
	again, err := send(1)
	if err != nil || !again.Repeated || again.ID != first.ID || again.MessageID != first.MessageID || len(again.Refused) != 1 || again.Refused[0].Address.Local != "no" {
		t.Errorf("%+v, %v; want %+v again", again, err, first)
	}
	_, err = send(2)
	wantFailure(t, err, "550 5.5.4")
}

// TestIdempotencyIsTheTenants: the same key of another tenant is another key.
func TestIdempotencyIsTheTenants(t *testing.T) {
	w := twoTenants(t)
	text := "Behalf-Idempotency-Key: order-17\nFrom: someone@elsewhere.example\n\nx\n"
	ids := map[mail.ID]bool{}
	for _, name := range []string{"acme", "globex"} {
		r, err := w.Send(w.Login("platform/app+"+name, platformSecret), "app@x.example", text, "bob@there.example")
		if err != nil || r.Repeated {
			t.Fatal(name, r, err)
		}
		ids[r.ID] = true
	}
	if len(ids) != 2 {
		t.Error("one message for two tenants")
	}
}

// TestIdempotencyAtOnce: of many that come together one is taken.
func TestIdempotencyAtOnce(t *testing.T) {
	w := acme(t, relaytest.Options{}, "")
	app := w.App()
	const n = 16
	receipts, errs := make([]relay.Receipt, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			s := submission("app@acme.example", body, relay.Hints{IdempotencyKey: "k"}, "bob@there.example")
			s.Hash = func() [32]byte { return [32]byte{1} }
			receipts[i], errs[i] = w.Intake.Accept(context.Background(), app, relaytest.Client(), s)
		})
	}
	wg.Wait()
	fresh := 0
	for i := range n {
		if errs[i] != nil || receipts[i].ID != receipts[0].ID || receipts[i].MessageID != receipts[0].MessageID {
			t.Errorf("%+v, %v", receipts[i], errs[i])
		}
		if !receipts[i].Repeated {
			fresh++
		}
	}
	if fresh != 1 || len(w.Offered()) != 1 {
		t.Errorf("%d taken as new", fresh)
	}
	other := submission("app@acme.example", body, relay.Hints{IdempotencyKey: "k"}, "bob@there.example")
	other.Hash = func() [32]byte { return [32]byte{2} }
	_, err := w.Intake.Accept(context.Background(), app, relaytest.Client(), other)
	wantFailure(t, err, "550 5.5.4")
}

// TestIdempotencyAfterACut: a key is kept with its message or not at all.
func TestIdempotencyAfterACut(t *testing.T) {
	w := acme(t, relaytest.Options{}, "")
	first, err := w.Send(w.App(), "app@acme.example", keyed, "bob@there.example")
	if err != nil {
		t.Fatal(err)
	}
	w.Cut()
	again, err := w.Send(w.App(), "app@acme.example", keyed, "bob@there.example")
	if err != nil || !again.Repeated || again.ID != first.ID {
		t.Errorf("%+v, %v", again, err)
	}
}

func TestSendAt(t *testing.T) {
	w := acme(t, relaytest.Options{}, "")
	at := time.Now().Add(48 * time.Hour).Truncate(time.Second).UTC()
	st := w.Accepted(w.App(), "app@acme.example", "Behalf-Send-At: "+at.Format(time.RFC3339)+"\n"+body, "bob@there.example")
	if r := st.Recipients[0]; !r.Next.Equal(at) || !st.Message.NotBefore.Equal(at) || !st.Message.Expires.Equal(at.Add(96*time.Hour)) {
		t.Errorf("next %v, not before %v, expires %v; want %v", r.Next, st.Message.NotBefore, st.Message.Expires, at)
	}
	st = w.Accepted(w.App(), "app@acme.example", "Behalf-Send-At: 2020-01-01T00:00:00+02:00\n"+body, "bob@there.example")
	if r := st.Recipients[0]; !r.Next.Equal(st.Message.Accepted) || !st.Message.Expires.Equal(st.Message.Accepted.Add(96*time.Hour)) {
		t.Errorf("a time in the past: next %v, expires %v", r.Next, st.Message.Expires)
	}
}

// TestNotKept: whatever goes wrong before the message is safe is no acceptance,
// and ours alone.
func TestNotKept(t *testing.T) {
	w := acme(t, relaytest.Options{}, "")
	w.Bodies.Refuse(blob.ErrFull)
	_, err := w.Send(w.App(), "app@acme.example", body, "bob@there.example")
	wantFailure(t, err, "452 4.3.1")
	w.Bodies.Refuse(errors.New("the disk is broken"))
	_, err = w.Send(w.App(), "app@acme.example", body, "bob@there.example")
	if f := wantFailure(t, err, "451 4.3.0"); f.Scope != mail.OfUs {
		t.Errorf("scope %v", f.Scope)
	}
	w.Bodies.Refuse(nil)
	w.Accepted(w.App(), "app@acme.example", body, "bob@there.example")
}
