package relay_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"behalf/mail"
	"behalf/relay"
	"behalf/relay/relaytest"
	"behalf/spool"
)

// rate is a limit of a stage as Rego.
func rate(count string, n, burst int, more string) string {
	return fmt.Sprintf(`limit contains {"rule":"l","key":["tenant",input.tenant.id],"count":%q,"rate":%d,"per":"24h","burst":%d%s}`+"\n", count, n, burst, more)
}

// TestLimits: how many messages of two recipients each pass a limit, by stage
// and by what is counted.
func TestLimits(t *testing.T) {
	size := len(relaytest.CRLF(body))
	for _, c := range []struct {
		name  string
		rules map[string]string
		pass  int
	}{
		{"messages at the sender stage", map[string]string{"sender": rate("messages", 1, 3, "")}, 3},
		{"messages at the recipient stage count once", map[string]string{"recipient": rate("messages", 1, 3, "")}, 3},
		{"messages at the message stage", map[string]string{"message": rate("messages", 1, 3, "")}, 3},
		{"recipients at the sender stage", map[string]string{"sender": rate("recipients", 1, 6, "")}, 3},
		{"recipients at the recipient stage", map[string]string{"recipient": rate("recipients", 1, 6, "")}, 3},
		{"recipients at the message stage", map[string]string{"message": rate("recipients", 1, 6, "")}, 3},
		{"bytes at the sender stage", map[string]string{"sender": rate("bytes", 1, 3*size, "")}, 3},
		{"bytes at the recipient stage count once", map[string]string{"recipient": rate("bytes", 1, 3*size, "")}, 3},
		{"bytes at the message stage", map[string]string{"message": rate("bytes", 1, 3*size, "")}, 3},
		{"two stages with a rule of the same name count apart", map[string]string{"sender": rate("messages", 1, 3, ""), "message": rate("messages", 1, 4, "")}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := ruled(t, c.rules, "")
			app := w.App()
			for i := range c.pass {
				if _, err := w.Send(app, "app@acme.example", body, "bob@there.example", "eve@there.example"); err != nil {
					t.Fatalf("message %d: %v", i+1, err)
				}
			}
			_, err := w.Send(app, "app@acme.example", body, "bob@there.example", "eve@there.example")
			if f := wantFailure(t, err, "452 4.7.1"); f.RetryAfter <= 0 || !strings.Contains(f.Text, "try again in") {
				t.Errorf("no time to come again: %+v", f)
			}
		})
	}
}

// TestLargerThanTheBurst can never pass, and says so.
func TestLargerThanTheBurst(t *testing.T) {
	w := ruled(t, map[string]string{"message": rate("bytes", 1, 10, "")}, "")
	_, err := w.Send(w.App(), "app@acme.example", body, "bob@there.example")
	if f := wantFailure(t, err, "452"); !strings.Contains(f.Text, "send less at a time") {
		t.Errorf("%q", f.Text)
	}
}

// TestRecipientOverLimit refuses that recipient and leaves those before it.
func TestRecipientOverLimit(t *testing.T) {
	for _, stage := range []string{"sender", "recipient"} {
		w := ruled(t, map[string]string{stage: rate("recipients", 1, 2, "")}, "")
		r, err := w.Intake.Accept(context.Background(), w.App(), relaytest.Client(),
			submission("app@acme.example", body, relay.Hints{}, "a@there.example", "b@there.example", "c@there.example", "d@there.example"))
		if err != nil || len(r.Refused) != 2 || r.Refused[0].Address.Local != "c" || r.Refused[0].Failure.Code != 452 {
			t.Errorf("%s: %v, %+v", stage, err, r.Refused)
		}
	}
}

// TestARefusalDoesNotUseUpTheMessage: a limit on messages that refuses the first
// recipient refuses the next one too.
func TestARefusalDoesNotUseUpTheMessage(t *testing.T) {
	w := ruled(t, map[string]string{"recipient": rate("messages", 1, 1, "")}, "")
	app := w.App()
	w.Accepted(app, "app@acme.example", body, "a@there.example")
	r, err := w.Intake.Accept(context.Background(), app, relaytest.Client(),
		submission("app@acme.example", body, relay.Hints{}, "a@there.example", "b@there.example"))
	if err == nil {
		t.Errorf("accepted with %+v refused", r.Refused)
	}
}

// TestGivenBack: what was reserved for a message or a recipient that is not
// taken is there for the next.
func TestGivenBack(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name   string
		refuse func(w *relaytest.World, p *relay.Principal)
	}{
		{"aborted", func(w *relaytest.World, p *relay.Principal) {
			tx, err := w.Intake.Begin(ctx, p, relaytest.Client(), mail.Envelope{From: relaytest.Address(t, "app@acme.example")}, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := tx.Recipient(ctx, mail.Recipient{Address: relaytest.Address(t, "a@there.example")}); err != nil {
				t.Fatal(err)
			}
			tx.Abort()
			tx.Abort() // once more does nothing
		}},
		{"refused after DATA", func(w *relaytest.World, p *relay.Principal) {
			if _, err := w.Send(p, "app@acme.example", "Subject: no From\n\nx\n", "a@there.example"); err == nil {
				t.Fatal("accepted")
			}
		}},
		{"refused by the message stage", func(w *relaytest.World, p *relay.Principal) {
			if _, err := w.Send(p, "app@acme.example", strings.Replace(body, "Hi", "bad", 1), "a@there.example"); err == nil {
				t.Fatal("accepted")
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := ruled(t, map[string]string{"sender": rate("messages", 1, 1, ""), "recipient": rate("recipients", 1, 1, ""),
				"message": `deny contains {"rule":"d","reason":"bad"} if input.message.subject == "bad"`}, "")
			p := w.App()
			for range 3 {
				c.refuse(w, p)
			}
			w.Accepted(p, "app@acme.example", body, "a@there.example")
		})
	}
}

// TestOverPaceAndHold: who is over such a limit is taken, and waits.
func TestOverPaceAndHold(t *testing.T) {
	for over, state := range map[string]mail.State{"pace": mail.Queued, "hold": mail.Held} {
		w := ruled(t, map[string]string{"sender": rate("messages", 24, 1, `,"over":"`+over+`","max_wait":"90m"`)}, "")
		app := w.App()
		w.Accepted(app, "app@acme.example", body, "a@there.example")
		st := w.Accepted(app, "app@acme.example", body, "a@there.example")
		r := st.Recipients[0]
		if wait := time.Until(r.Next); r.State != state || wait < 50*time.Minute || wait > time.Hour {
			t.Errorf("%s: %s, waits %v", over, r.State, wait)
		}
		_, err := w.Send(app, "app@acme.example", body, "a@there.example")
		wantFailure(t, err, "452 4.7.1") // would wait two hours
	}
}

// TestOverPaceOfOneRecipient delays that recipient alone.
func TestOverPaceOfOneRecipient(t *testing.T) {
	w := ruled(t, map[string]string{"recipient": `limit contains {"rule":"l","key":["site",input.recipient.site],"count":"recipients","rate":1,"per":"1h","burst":1,"over":"pace"}`}, "")
	st := w.Accepted(w.App(), "app@acme.example", body, "a@there.example", "b@there.example", "c@elsewhere.example")
	for i, want := range []time.Duration{0, time.Hour, 0} {
		if wait := st.Recipients[i].Next.Sub(st.Message.Accepted); (wait - want).Abs() > time.Second {
			t.Errorf("recipient %d waits %v, want %v", i, wait, want)
		}
	}
}

// TestUsageOfOneMessage: new recipients count as they come, so that the takeover
// rule of contract section 5 holds inside one large message too.
func TestUsageOfOneMessage(t *testing.T) {
	w := ruled(t, map[string]string{"recipient": "defer contains {\"rule\":\"takeover\",\"reason\":\"too many new recipients today\"} if {\n\tinput.recipient.first_time\n\tinput.usage[\"24h\"].new_recipients >= 3\n}"}, "")
	var to []string
	for i := range 5 {
		to = append(to, fmt.Sprintf("r%d@there.example", i))
	}
	app := w.App()
	send := func() relay.Receipt {
		t.Helper()
		r, err := w.Intake.Accept(context.Background(), app, relaytest.Client(), submission("app@acme.example", body, relay.Hints{}, to...))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := send(); len(r.Refused) != 2 {
		t.Errorf("%d refused, want 2", len(r.Refused))
	}
	if r := send(); len(r.Refused) != 2 || r.Refused[0].Address.Local != "r3" {
		t.Errorf("then refused %+v, want the two that are still new", r.Refused)
	}
}

func TestTooManyRecipients(t *testing.T) {
	w := acme(t, relaytest.Options{Intake: func(o *relay.Options) { o.MaxRecipients = 2 }}, "")
	r, err := w.Intake.Accept(context.Background(), w.App(), relaytest.Client(),
		submission("app@acme.example", body, relay.Hints{}, "a@there.example", "A@THERE.example", "b@there.example", "c@there.example"))
	if err != nil || len(r.Refused) != 1 || r.Refused[0].Failure.Code != 452 || r.Refused[0].Failure.Enhanced != (mail.Enhanced{4, 5, 3}) {
		t.Errorf("%v, %+v", err, r.Refused)
	}
	if n := len(w.Offered()[0].Recipients); n != 2 {
		t.Errorf("%d recipients, want 2: one was given twice", n)
	}
}

func TestTooLarge(t *testing.T) {
	w := acme(t, relaytest.Options{Intake: func(o *relay.Options) { o.MaxSize = 1000 }}, "")
	_, err := w.Send(w.App(), "app@acme.example", body+strings.Repeat("x", 1000), "a@there.example")
	wantFailure(t, err, "552 5.3.4")
	_, err = w.Intake.Begin(context.Background(), w.App(), relaytest.Client(), mail.Envelope{}, 1001)
	wantFailure(t, err, "552 5.3.4")
	w.Accepted(w.App(), "app@acme.example", body, "a@there.example")
}

// TestPanicGivesBack: what a submission reserved is given back though reading it
// panics.
func TestPanicGivesBack(t *testing.T) {
	w := ruled(t, map[string]string{"sender": rate("messages", 1, 1, "")}, "")
	s := submission("app@acme.example", body, relay.Hints{}, "bob@there.example")
	write := s.Write
	s.Write = func(io.Writer) error { panic("boom") }
	func() {
		defer func() {
			if recover() == nil {
				t.Fatal("no panic")
			}
		}()
		_, _ = w.Intake.Accept(t.Context(), w.App(), relaytest.Client(), s)
	}()
	s.Write = write
	if _, err := w.Intake.Accept(t.Context(), w.App(), relaytest.Client(), s); err != nil {
		t.Error(err)
	}
}

// TestSharedWords: a tenant that is refused by a limit that it shares hears of
// that and when to come again, and not how much others may send. The events say
// that it is shared.
func TestSharedWords(t *testing.T) {
	w := ruled(t, map[string]string{"sender": `limit contains {"rule":"all","key":["organisation","umbrella"],"count":"messages","rate":20,"per":"24h","burst":20}`}, "")
	app := w.App()
	for range 20 {
		w.Accepted(app, "app@acme.example", body, "a@there.example")
	}
	_, err := w.Send(app, "app@acme.example", body, "a@there.example")
	f := wantFailure(t, err, "452 4.7.1 over the limit all, which is shared with others; try again in ")
	if f.RetryAfter <= 0 || strings.Contains(f.Text, "20 messages") {
		t.Errorf("%+v", f)
	}
	events, _, err := w.Spool.Events(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, e := range events {
		if e.Limit == nil {
			continue
		}
		told++
		seen, ok := e.ToTenant()
		switch {
		case !e.Limit.Shared || e.Limit.Used == 0:
			t.Errorf("%+v", e.Limit)
		case ok != (e.Type == mail.EventLimitReached):
			t.Errorf("%s is shown: %t", e.Type, ok)
		case ok && (seen.Limit.Used != 0 || !seen.Limit.Reset.IsZero() || seen.Limit.Rule != "sender.rego:all"):
			t.Errorf("shown %+v", seen.Limit)
		}
	}
	if told != 3 {
		t.Errorf("%d events", told)
	}
}

// TestLimitEventsComeWithTheMessage: the event of a threshold is committed with
// the message that reached it, so that no crash parts them.
func TestLimitEventsComeWithTheMessage(t *testing.T) {
	w := ruled(t, map[string]string{"sender": rate("messages", 10, 10, "")}, "")
	var committed []string
	offer := w.Intake.Offer
	w.Intake.Offer = func(st *spool.Stored) { // the first moment after the commit
		events, err := w.Spool.Timeline(t.Context(), st.Message.ID)
		if err != nil {
			t.Error(err)
		}
		for _, e := range events {
			committed = append(committed, string(e.Type))
		}
		offer(st)
	}
	for range 8 {
		committed = nil
		w.Accepted(w.App(), "app@acme.example", body, "a@there.example")
	}
	if got := strings.Join(committed, ", "); got != "message.accepted, limit.warning" {
		t.Errorf("committed with the eighth of ten: %s", got)
	}
}
