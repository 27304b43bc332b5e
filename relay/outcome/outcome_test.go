package outcome_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"behalf/mail"
	"behalf/relay"
	"behalf/relay/outcome"
	"behalf/relay/relaytest"
	"behalf/spool"
	"behalf/spool/follow"
)

// world is a relay whose follower and reporter run, on a clock of its own.
type world struct {
	*relaytest.World
	halt func() error // ends what run began
}

func (w *world) stop() {
	w.T.Helper()
	if err := w.halt(); err != nil {
		w.T.Errorf("Run: %v", err)
	}
}

// start makes the tenant acme, whose addresses are verified, and runs what this
// package is.
func start(t *testing.T, fields string) *world {
	w := &world{World: relaytest.New(t, relaytest.Options{})}
	w.Acme(fields)
	w.Publish("acme", "acme.example")
	w.run()
	return w
}

func (w *world) run() {
	w.T.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.DiscardHandler)
	f := follow.New(w.Spool, w.Store, "notice", outcome.Handle, follow.Options{Log: log})
	if err := f.Prepare(ctx); err != nil {
		w.T.Fatal(err)
	}
	r := &outcome.Reporter{Store: w.Store, Spool: w.Spool, Directory: w.Directory, Intake: w.Intake,
		Hostname: relaytest.Hostname, Domain: relaytest.Platform, Notify: relaytest.Notify, Log: log}
	ended := make(chan error, 2)
	go func() { ended <- f.Run(ctx) }()
	go func() { ended <- r.Run(ctx) }()
	w.halt = func() error {
		cancel()
		return errors.Join(<-ended, <-ended)
	}
}

const text = "From: Ann <support@acme.example>\nSubject: Invoice 17\nMessage-ID: <17@acme.example>\n\nThe body.\n"

// send accepts a message with DSN parameters; the envelope's sender is from.
func (w *world) send(from string, e mail.Envelope, rs ...mail.Recipient) *spool.Stored {
	w.T.Helper()
	ctx := context.Background()
	e.From = relaytest.Address(w.T, from)
	tx, err := w.Intake.Begin(ctx, w.App(), relaytest.Client(), e, 0)
	if err != nil {
		w.T.Fatal(err)
	}
	for _, r := range rs {
		if err := tx.Recipient(ctx, r); err != nil {
			w.T.Fatal(err)
		}
	}
	if _, err := tx.Write([]byte(relaytest.CRLF(text))); err != nil {
		w.T.Fatal(err)
	}
	if _, err := tx.Commit(ctx); err != nil {
		w.T.Fatal(err)
	}
	return w.Offered()[0]
}

func (w *world) rcpt(a string, n mail.Notify) mail.Recipient {
	return mail.Recipient{Address: relaytest.Address(w.T, a), Notify: n}
}

// settle ends recipients of a message as dispatch does.
func (w *world) settle(st *spool.Stored, state mail.State, indices ...int) {
	w.T.Helper()
	now := time.Now()
	o := spool.Outcome{ID: st.Message.ID}
	f := mail.Fail(550, mail.Enhanced{5, 1, 1}, mail.OfRecipient, mail.ReasonNoMailbox, "no such user here")
	f.Reply = "550 5.1.1 no such user here"
	a := mail.Attempt{At: now, Host: "mx.there.example", Upstream: mail.UpstreamMX, Reply: f.Reply, Failure: f}
	e := mail.Event{At: now, Recipients: indices, Attempt: &a}
	for _, i := range indices {
		r := st.Recipients[i]
		r.State, r.Next = state, time.Time{}
		switch state {
		case mail.Delivered:
			e.Type, a.Failure, a.Reply = mail.EventDelivered, nil, "250 OK"
			e.Success = r.Notify.Wants(mail.NotifySuccess)
		case mail.Failed:
			e.Type, r.Last = mail.EventFailed, f
		case mail.Expired:
			e.Type, r.Last = mail.EventExpired, mail.Fail(451, mail.Enhanced{4, 4, 1}, mail.OfDestination, mail.ReasonUnreachable, "no answer")
		}
		r.Done = now
		o.Changes = append(o.Changes, spool.Change{Index: i, Recipient: r})
	}
	o.Events = []mail.Event{e}
	if err := w.Spool.SettleNow(context.Background(), []spool.Outcome{o}); err != nil {
		w.T.Fatal(err)
	}
}

// late tells of a delay, as dispatch does by the clock.
func (w *world) late(st *spool.Stored) {
	w.T.Helper()
	o := spool.Outcome{ID: st.Message.ID, Events: []mail.Event{{At: time.Now(), Type: mail.EventDelayed}}}
	if err := w.Spool.SettleNow(context.Background(), []spool.Outcome{o}); err != nil {
		w.T.Fatal(err)
	}
}

// reports lets time pass and gives the reports that went out since.
func (w *world) reports() []*spool.Stored {
	w.T.Helper()
	time.Sleep(10 * time.Second)
	synctest.Wait()
	return w.Offered()
}

// to is whom the reports go to.
func to(all []*spool.Stored) string {
	var s []string
	for _, st := range all {
		for _, r := range st.Recipients {
			s = append(s, r.Address.String())
		}
	}
	return strings.Join(s, " ")
}

func bubble(t *testing.T, fn func(t *testing.T)) { t.Helper(); synctest.Test(t, fn) }

// TestWhoIsTold: the MAIL FROM that the tenant has proved, else who is
// responsible, and never the null path.
func TestWhoIsTold(t *testing.T) {
	const ops = `"notify":"ops@acme.example"`
	for _, c := range []struct{ name, fields, credential, from, want string }{
		{"a verified sender", ops, "", "Support@acme.example", "Support@acme.example"},
		{"an unverified sender: the tenant", ops, "", "someone@elsewhere.example", "ops@acme.example"},
		{"the credential before the tenant", ops, `,"notify":"dev@acme.example"`, "someone@elsewhere.example", "dev@acme.example"},
		{"the platform at last", "", "", "someone@elsewhere.example", relaytest.Notify},
		{"never the null path", ops, "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := start(t, c.fields)
				defer w.stop()
				if c.credential != "" {
					w.Apply(`{"kind":"credential","tenant":"acme","name":"app"` + c.credential + `}`)
				}
				w.Accepted(w.App(), "support@acme.example", text, "bob@there.example") // proves the domain
				st := w.send(c.from, mail.Envelope{}, w.rcpt("bob@there.example", 0))
				w.settle(st, mail.Failed, 0)
				if got := to(w.reports()); got != c.want {
					t.Errorf("told %q, want %q", got, c.want)
				}
			})
		})
	}
}

// TestNotify: the client's NOTIFY governs what its MAIL FROM is told.
func TestNotify(t *testing.T) {
	for _, c := range []struct {
		name   string
		notify mail.Notify
		state  mail.State
		told   bool
	}{
		{"failure by default", 0, mail.Failed, true},
		{"expiry by default", 0, mail.Expired, true},
		{"no success by default", 0, mail.Delivered, false},
		{"success where asked", mail.NotifySuccess, mail.Delivered, true},
		{"no failure where only success is asked", mail.NotifySuccess, mail.Failed, false},
		{"failure where asked", mail.NotifyFailure, mail.Failed, true},
		{"never", mail.NotifyNever, mail.Failed, false},
		{"never means never", mail.NotifyNever, mail.Expired, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := start(t, "")
				defer w.stop()
				st := w.send("support@acme.example", mail.Envelope{}, w.rcpt("bob@there.example", c.notify))
				w.settle(st, c.state, 0)
				if n := len(w.reports()); (n == 1) != c.told || n > 1 {
					t.Errorf("%d reports, told: %v", n, c.told)
				}
			})
		})
	}
}

// TestOneReport: what happens to recipients of a message within a few seconds is
// told in one report, that never leads to another.
func TestOneReport(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := start(t, "")
		defer w.stop()
		st := w.send("support@acme.example", mail.Envelope{EnvID: "env-7"}, w.rcpt("bob@there.example", 0), w.rcpt("eve@there.example", 0),
			w.rcpt("ann@there.example", mail.NotifySuccess), w.rcpt("joe@there.example", 0))
		other := w.send("support@acme.example", mail.Envelope{}, w.rcpt("bob@there.example", 0))
		w.settle(st, mail.Failed, 0)
		time.Sleep(time.Second)
		w.settle(st, mail.Expired, 1)
		w.settle(other, mail.Failed, 0)
		w.settle(st, mail.Delivered, 2)
		w.settle(st, mail.Delivered, 3)
		all := w.reports()
		if to(all) != "support@acme.example support@acme.example" {
			t.Fatalf("reports to %q, want one for each message", to(all))
		}
		r := w.Render(all[0], 0, 0)
		for _, want := range []string{
			"From: Mail Delivery System <MAILER-DAEMON@platform.example>\r\n", "Auto-Submitted: auto-replied\r\n", "report-type=delivery-status",
			"Original-Envelope-Id: env-7\r\n", "Final-Recipient: rfc822; bob@there.example\r\n", "Final-Recipient: rfc822; eve@there.example\r\n",
			"Final-Recipient: rfc822; ann@there.example\r\nAction: relayed\r\n", "Diagnostic-Code: smtp; 550 5.1.1 no such user here\r\n", "Subject: Invoice 17\r\n",
		} {
			if !strings.Contains(r.Text, want) {
				t.Errorf("%q is not in\n%s", want, r.Text)
			}
		}
		for _, not := range []string{"joe@", "The body."} {
			if strings.Contains(r.Text, not) {
				t.Errorf("%q is in\n%s", not, r.Text)
			}
		}
		if r.From != "" || len(r.Signed) != 2 || !strings.HasPrefix(r.Signed[0], "d="+relaytest.SendingDomain) {
			t.Errorf("sent from <%s>, signed %v", r.From, r.Signed)
		}
		es, err := w.Spool.Timeline(context.Background(), st.Message.ID)
		last := es[len(es)-1]
		if err != nil || last.Type != mail.EventReported || last.Related != all[0].Message.ID.String() || last.Reason != "failed, to support@acme.example" {
			t.Errorf("%v; the timeline ends with %+v", err, last)
		}
		for _, st := range all {
			w.settle(st, mail.Failed, 0)
		}
		if more := w.reports(); len(more) != 0 {
			t.Errorf("a report was answered to %s", to(more))
		}
	})
}

func TestReturnFull(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := start(t, "")
		defer w.stop()
		st := w.send("support@acme.example", mail.Envelope{Ret: mail.RetFull}, w.rcpt("bob@there.example", 0))
		w.settle(st, mail.Failed, 0)
		all := w.reports()
		if len(all) != 1 || !strings.Contains(w.Render(all[0], 0, 0).Text, "The body.") {
			t.Errorf("%d reports, or without the body", len(all))
		}
	})
}

// TestDelay: people hear of a delay once it is four hours old, counted from when
// the message was to go, and only of recipients that still wait.
func TestDelay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := start(t, "")
		defer w.stop()
		st := w.send("support@acme.example", mail.Envelope{}, w.rcpt("bob@there.example", 0), w.rcpt("eve@there.example", 0), w.rcpt("joe@there.example", mail.NotifyFailure))
		h := relay.Hints{SendAt: time.Now().Add(5 * time.Hour)}
		planned := w.planned(h)
		w.settle(st, mail.Delivered, 1)
		for _, age := range []time.Duration{3 * time.Minute, time.Hour} {
			time.Sleep(age - time.Since(st.Message.Accepted))
			w.late(st)
			if all := w.reports(); len(all) != 0 {
				t.Errorf("told after %v", age)
			}
		}
		time.Sleep(4*time.Hour - time.Since(st.Message.Accepted))
		w.late(st)
		all := w.reports()
		if to(all) != "support@acme.example" {
			t.Fatalf("told %q after four hours", to(all))
		}
		text := w.Render(all[0], 0, 0).Text
		if !strings.Contains(text, "Action: delayed") || !strings.Contains(text, "Will-Retry-Until: ") || !strings.Contains(text, "bob@there") ||
			strings.Contains(text, "eve@there") || strings.Contains(text, "joe@there") {
			t.Errorf("report\n%s", text)
		}
		time.Sleep(5*time.Hour + 3*time.Minute - time.Since(planned.Message.Accepted))
		w.late(planned)
		if all := w.reports(); len(all) != 0 {
			t.Error("a message that was to go later is told late by when it came")
		}
	})
}

// planned is a message that is to go later.
func (w *world) planned(h relay.Hints) *spool.Stored {
	w.T.Helper()
	_, err := w.Intake.Accept(context.Background(), w.App(), relaytest.Client(), relay.Submission{
		Envelope: mail.Envelope{From: relaytest.Address(w.T, "support@acme.example")}, Hints: h, Recipients: []mail.Recipient{w.rcpt("bob@there.example", 0)},
		Write: func(wr io.Writer) error {
			_, err := wr.Write([]byte(relaytest.CRLF(text)))
			return err
		},
	})
	if err != nil {
		w.T.Fatal(err)
	}
	return w.Offered()[0]
}
