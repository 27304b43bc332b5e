package relay_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"behalf/mail"
	"behalf/relay"
	"behalf/relay/relaytest"
)

// exactRules limit by tenant, credential, recipient's domain and sender: so many
// at once, then so many a minute.
func exactRules(key, count string, rate, burst int) map[string]string {
	rule := fmt.Sprintf(`limit contains {"rule":"l","key":%s,"count":%q,"rate":%d,"per":"1m","burst":%d}`, key, count, rate, burst)
	stage := "sender"
	if strings.Contains(key, "input.recipient") {
		stage = "recipient"
	}
	return map[string]string{stage: rule, "message": `deny contains {"rule":"d","reason":"bad"} if input.message.subject == "bad"`}
}

// TestExactAtOnce: of what 20 sessions send as fast as they can over a minute, a
// limit lets pass its burst and its rate and not one more or less, whatever
// becomes of the others: dropped, reset, refused later, sent twice.
func TestExactAtOnce(t *testing.T) {
	for _, c := range []struct {
		name, key, count string
		each             int // recipients of a message
	}{
		{"by tenant", `["tenant",input.tenant.id]`, "messages", 1},
		{"by credential", `["credential",input.credential.username]`, "messages", 2},
		{"by recipient's domain", `["domain",input.tenant.id,input.recipient.domain]`, "recipients", 1},
		{"by sender", `["sender",input.tenant.id,input.envelope.from]`, "messages", 1},
		{"by tenant, recipients at MAIL", `["tenant",input.tenant.id]`, "recipients", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			const rate, burst = 60, 25
			synctest.Test(t, func(t *testing.T) {
				w := ruled(t, exactRules(c.key, c.count, rate, burst), "")
				app := w.App()
				var passed atomic.Int64
				var wg sync.WaitGroup
				for g := range 20 {
					wg.Go(func() {
						for i := range 61 {
							if sendSomehow(t, w, app, (g+i)%6, c.each) {
								passed.Add(1)
							}
							time.Sleep(time.Second)
						}
					})
				}
				wg.Wait()
				if n := passed.Load(); n != burst+rate {
					t.Errorf("%d passed in a minute, want %d at once and %d after", n, burst, rate)
				}
			})
		})
	}
}

// sendSomehow sends a message, of which the ways 1 to 3 come to nothing, and
// tells whether it was accepted. Whoever comes to nothing tries once more in
// earnest, as a turn that was given back must be there for it.
func sendSomehow(t *testing.T, w *relaytest.World, p *relay.Principal, way, recipients int) bool {
	ctx := context.Background()
	var to []string
	for i := range recipients {
		to = append(to, fmt.Sprintf("r%d@there.example", i))
	}
	switch way {
	case 1: // drops before the dot, or resets
		tx, err := w.Intake.Begin(ctx, p, relaytest.Client(), mail.Envelope{From: relaytest.Address(t, "app@acme.example")}, 0)
		if err != nil {
			return false
		}
		for _, a := range to {
			if tx.Recipient(ctx, mail.Recipient{Address: relaytest.Address(t, a)}) != nil {
				tx.Abort()
				return false
			}
		}
		tx.Abort()
	case 2: // refused by the message stage
		if _, err := w.Send(p, "app@acme.example", strings.Replace(body, "Hi", "bad", 1), to...); err == nil {
			t.Error("accepted")
		}
	case 3: // refused for its header
		if _, err := w.Send(p, "app@acme.example", "Subject: no From\n\nx\n", to...); err == nil {
			t.Error("accepted")
		}
	}
	_, err := w.Send(p, "app@acme.example", body, to...)
	var over *relay.OverLimit
	if err != nil && !errors.As(mail.AsFailure(err), &over) {
		t.Errorf("refused: %v", err)
	}
	return err == nil
}

// TestExactAfterRestart: a limit holds over a restart; after a graceful stop
// exactly, after a cut except for what passed in the last second.
func TestExactAfterRestart(t *testing.T) {
	for _, c := range []struct {
		name     string
		graceful bool
		after    time.Duration // from the last message to the end
		left     int
	}{
		{"a graceful stop", true, 0, 3},
		{"cut a second later", false, 1100 * time.Millisecond, 3},
		{"cut at once", false, 0, 7}, // four came in the last second
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := ruled(t, map[string]string{"sender": rate("messages", 1, 10, "")}, "")
				run, stop := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- w.Limits.Run(run, w.Store) }()
				app := w.App()
				for i := range 7 {
					if i == 3 {
						time.Sleep(1500 * time.Millisecond)
					}
					w.Accepted(app, "app@acme.example", body, "a@there.example")
				}
				time.Sleep(c.after)
				if c.graceful {
					stop()
					if err := <-ended; err != nil {
						t.Fatal(err)
					}
				}
				old := w.Store
				w.Cut()
				defer old.Close()
				if err := w.Limits.Load(t.Context(), w.Store); err != nil {
					t.Fatal(err)
				}
				stop()
				if !c.graceful {
					<-ended
				}
				app = w.App()
				for i := range c.left + 1 {
					_, err := w.Send(app, "app@acme.example", body, "a@there.example")
					if (err == nil) != (i < c.left) {
						t.Errorf("message %d after the restart: %v", i+1, err)
					}
				}
			})
		})
	}
}

// TestGivenBackWhenNotKept: what could not be written, and what was sent twice
// under one idempotency key, costs nothing.
func TestGivenBackWhenNotKept(t *testing.T) {
	ctx := context.Background()
	w := ruled(t, map[string]string{"sender": rate("messages", 1, 2, ""), "recipient": rate("recipients", 1, 2, "")}, "")
	app := w.App()
	tx, err := w.Intake.Begin(ctx, app, relaytest.Client(), mail.Envelope{From: relaytest.Address(t, "app@acme.example")}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Recipient(ctx, mail.Recipient{Address: relaytest.Address(t, "a@there.example")}); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Write([]byte(relaytest.CRLF(body))); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := tx.Commit(gone); err == nil {
		t.Fatal("committed although the caller had gone")
	}
	for i := range 3 {
		r, err := w.Intake.Accept(ctx, app, relaytest.Client(), submission("app@acme.example", body, relay.Hints{IdempotencyKey: "k"}, "a@there.example"))
		if err != nil || r.Repeated != (i > 0) {
			t.Fatalf("time %d: %v, %+v", i, err, r)
		}
	}
	w.Accepted(app, "app@acme.example", body, "a@there.example")
	_, err = w.Send(app, "app@acme.example", body, "a@there.example")
	wantFailure(t, err, "452 4.7.1")
}

// TestEveryThirdRecipientRefused: who is refused at RCPT is not counted, neither
// by the rule that refuses nor by the others.
func TestEveryThirdRecipientRefused(t *testing.T) {
	w := ruled(t, map[string]string{
		"sender": rate("recipients", 1, 20, ""),
		"recipient": `limit contains {"rule":"d","key":[input.tenant.id,input.recipient.domain],"count":"recipients","rate":1,"per":"24h","burst":1}
deny contains {"rule":"third","reason":"third"} if startswith(input.recipient.address, "bad")`}, "")
	var to []string
	for i := range 20 {
		to = append(to, fmt.Sprintf("a@d%d.example", i), fmt.Sprintf("b@d%d.example", i), fmt.Sprintf("bad@d%d.example", i))
	}
	r, err := w.Intake.Accept(context.Background(), w.App(), relaytest.Client(), submission("app@acme.example", body, relay.Hints{}, to...))
	if err != nil || len(r.Refused) != 40 {
		t.Fatalf("%v, %d refused, want one of each domain taken", err, len(r.Refused))
	}
}

// TestDeclaredSize: a SIZE that no limit on bytes lets pass is refused at MAIL,
// and counts nothing.
func TestDeclaredSize(t *testing.T) {
	ctx := context.Background()
	for _, stage := range []string{"sender", "recipient"} {
		w := ruled(t, map[string]string{stage: rate("bytes", 1000, 5000, "")}, "")
		app := w.App()
		open := func(size int64) error {
			tx, err := w.Intake.Begin(ctx, app, relaytest.Client(), mail.Envelope{From: relaytest.Address(t, "app@acme.example")}, size)
			if err == nil {
				err = tx.Recipient(ctx, mail.Recipient{Address: relaytest.Address(t, "a@there.example")})
				tx.Abort()
			}
			return err
		}
		for range 3 {
			wantFailure(t, open(5001), "452 4.7.1")
			if err := open(5000); err != nil {
				t.Fatalf("%s: %v", stage, err)
			}
		}
	}
}

// TestLimitWords: who is told what by a limit.
func TestLimitWords(t *testing.T) {
	w := ruled(t, map[string]string{"sender": rate("messages", 20, 20, "")}, "")
	app := w.App()
	for i := range 20 {
		r, err := w.Send(app, "app@acme.example", body, "a@there.example")
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if i >= 14 {
			want = fmt.Sprintf("%d left of the limit l: 20 messages in 24h", 19-i)
		}
		if got := strings.Join(r.Warnings, "|"); got != want {
			t.Errorf("message %d: %q, want %q", i+1, got, want)
		}
		if len(r.Limits) != 1 || r.Limits[0].Remaining != int64(19-i) {
			t.Errorf("message %d: %+v", i+1, r.Limits)
		}
	}
	_, err := w.Send(app, "app@acme.example", body, "a@there.example")
	f := wantFailure(t, err, "452 4.7.1 over the limit l: 20 messages in 24h; try again in ")
	if f.RetryAfter < 71*time.Minute || f.RetryAfter > 72*time.Minute {
		t.Errorf("come again in %v", f.RetryAfter)
	}
}

// TestPacedWords: who is taken and must wait is told until when, by which limit,
// and so is whoever reads the trace.
func TestPacedWords(t *testing.T) {
	for over, want := range map[string]string{"pace": "delayed until 20", "hold": "held until 20"} {
		w := ruled(t, map[string]string{"sender": rate("messages", 24, 1, `,"over":"`+over+`"`)}, "")
		app := w.App()
		w.Accepted(app, "app@acme.example", body, "a@there.example")
		r, err := w.Send(app, "app@acme.example", body, "a@there.example")
		if err != nil || len(r.Warnings) != 1 || !strings.HasPrefix(r.Warnings[0], want) || !strings.HasSuffix(r.Warnings[0], " by the limit l: 24 messages in 24h, 1 at once") {
			t.Errorf("%s: %v, %q", over, err, r.Warnings)
		}
		if over == "hold" {
			rec := w.Offered()[0].Recipients[0]
			if rec.Reason != "over the limit l: 24 messages in 24h, 1 at once" || rec.Next.IsZero() {
				t.Errorf("%+v", rec)
			}
		}
	}
}

// TestLimitEvents: each threshold is told once in the feed, also when it is a
// refused message that reaches it.
func TestLimitEvents(t *testing.T) {
	w := ruled(t, map[string]string{"sender": rate("messages", 20, 20, "")}, "")
	app := w.App()
	for range 25 {
		if tx, err := w.Intake.Begin(t.Context(), app, relaytest.Client(), mail.Envelope{From: relaytest.Address(t, "app@acme.example")}, 0); err == nil {
			tx.Abort() // which warns of nothing
		}
		_, _ = w.Send(app, "app@acme.example", body, "a@there.example")
	}
	events, _, err := w.Spool.Events(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, e := range events {
		if e.Limit == nil {
			continue
		}
		if v, err := w.Directory.View(t.Context(), e.Owner()); err != nil || v.Tenant.Name != "acme" {
			t.Errorf("%+v is not acme's: %v", e, err)
		}
		told = append(told, fmt.Sprintf("%s %d%% %d/%d %t", e.Type, e.Limit.Percent, e.Limit.Used, e.Limit.Allowed, e.Message.IsZero()))
	}
	if got := strings.Join(told, ", "); got != "limit.warning 75% 15/20 false, limit.warning 90% 18/20 false, limit.reached 100% 20/20 true" {
		t.Errorf("told %s", got)
	}
}

// TestTenantLimits: the most pressing limit is first, and what is shared with
// others is marked.
func TestTenantLimits(t *testing.T) {
	w := ruled(t, map[string]string{
		"sender":    rate("messages", 100, 100, ""),
		"recipient": `limit contains {"rule":"all","key":["everybody"],"count":"recipients","rate":10,"per":"1h","burst":2}`,
	}, "")
	app := w.App()
	v, err := w.Directory.ViewByName(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	limits := func() []relay.TenantLimit {
		t.Helper()
		l, err := w.Intake.TenantLimits(t.Context(), v, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	if l := limits(); len(l) != 2 || l[0].Binding || l[0].Used() != 0 || !l[0].Last.IsZero() {
		t.Errorf("before anything was sent: %+v", l)
	}
	for range 4 {
		_, _ = w.Send(app, "app@acme.example", body, "a@there.example")
	}
	l := limits()
	if len(l) != 2 || !l[0].Binding || l[1].Binding || !l[0].Shared || l[1].Shared {
		t.Fatalf("%+v", l)
	}
	if l[0].Name() != "all" || l[0].Used() != 2 || l[0].Refused != 2 || l[0].Wait <= 0 || l[0].LastRefused.IsZero() || l[1].Used() != 2 || l[1].Refused != 0 {
		t.Errorf("%+v", l)
	}
}
