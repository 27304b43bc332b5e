package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"behalf/mail"
	"behalf/spool"
)

// conclude puts what an attempt at recipient i of j made of it into the outcome.
func (d *Dispatcher) conclude(base context.Context, j *job, i int, a *mail.Attempt) {
	if f := a.Failure; f != nil && base.Err() != nil && f.Temporary() && f.Stage != mail.StageFinal {
		return // we were told to stop: it was no attempt, and will be made after the restart
	}
	if a.Upstream == "" {
		a.Upstream = j.st.Message.Wishes[min(a.Wish, len(j.st.Message.Wishes)-1)].Upstream
	}
	j.verdict.add(a)
	before := &j.rcpts[i]
	after := before.After(*a, j.st.Message, d.o.Schedule)
	d.record(j, i, before, &after, a)
}

// told is an event of one recipient and what it refers to.
type told struct {
	events     [1]mail.Event
	attempt    mail.Attempt
	recipients [1]int
}

// record adds a changed recipient and the event that tells of it. Recipients
// with equal results share one event.
func (d *Dispatcher) record(j *job, i int, before, after *mail.Recipient, a *mail.Attempt) {
	if j.outcome.Changes == nil {
		j.outcome.Changes = j.one.changes[:0]
	}
	j.outcome.Changes = append(j.outcome.Changes, spool.Change{Index: j.idx[i], Recipient: *after})
	e := mail.Event{At: a.At.Add(a.Took), Type: eventType(before, after)}
	switch after.State {
	case mail.Delivered:
		e.Success = after.Notify.Wants(mail.NotifySuccess)
	case mail.Queued:
		e.Next = after.Next
	case mail.Expired:
		e.Reason = expiredReason(j.st.Message)
	}
	d.observe(j, i, &e, a)
	for n := range j.outcome.Events {
		if o := &j.outcome.Events[n]; alike(o, &e, a) {
			o.Recipients = append(o.Recipients, j.idx[i])
			return
		}
	}
	t := &j.one.told // for most the only one
	if len(j.outcome.Events) > 0 {
		t = &told{}
	}
	t.attempt, t.recipients[0] = *a, j.idx[i]
	e.Message, e.Recipients, e.Attempt = j.m.id, t.recipients[:], &t.attempt
	if j.outcome.Events == nil {
		j.outcome.Events = t.events[:0]
	}
	j.outcome.Events = append(j.outcome.Events, e)
}

func expiredReason(m *mail.Message) string {
	return fmt.Sprintf("could not be delivered within %s", m.Expires.Sub(m.Accepted).Round(time.Second))
}

func eventType(before, after *mail.Recipient) mail.EventType {
	switch after.State {
	case mail.Delivered:
		return mail.EventDelivered
	case mail.Failed:
		return mail.EventFailed
	case mail.Expired:
		return mail.EventExpired
	}
	if after.Wish > before.Wish {
		return mail.EventFailover
	}
	return mail.EventDeferred
}

// alike reports whether a tells the same of other recipients as b will of the
// attempt y. When exactly the attempts ended is not told apart.
func alike(a, b *mail.Event, y *mail.Attempt) bool {
	x := a.Attempt
	if x == nil || a.Type != b.Type || a.Success != b.Success || !a.Next.Equal(b.Next) {
		return false
	}
	return x.From == y.From && x.Host == y.Host && x.Addr == y.Addr && x.TLS == y.TLS && x.Reply == y.Reply &&
		sameFailure(x.Failure, y.Failure)
}

func sameFailure(a, b *mail.Failure) bool {
	if a == nil || b == nil || a == b {
		return a == b
	}
	return a.Code == b.Code && a.Enhanced == b.Enhanced && a.Scope == b.Scope && a.Reason == b.Reason && a.Stage == b.Stage &&
		a.Text == b.Text && a.Remote == b.Remote && a.Reply == b.Reply && a.RetryAfter == b.RetryAfter
}

// observe counts and logs one result.
func (d *Dispatcher) observe(j *job, i int, e *mail.Event, a *mail.Attempt) {
	m := j.st.Message
	d.metrics.delivery(a.Upstream, e.Type)
	level := slog.LevelInfo
	if e.Type == mail.EventDelivered {
		d.metrics.latency.Observe(e.At.Sub(later(m.Accepted, m.NotBefore)).Seconds())
		level = slog.LevelDebug
	}
	if !d.o.Log.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{slog.Any("tenant", m.Tenant), slog.String("message", m.ID.String()), slog.Int("recipient", j.idx[i]),
		slog.String("upstream", string(a.Upstream)), slog.String("host", a.Host), slog.Duration("took", a.Took)}
	if f := a.Failure; f != nil {
		attrs = append(attrs, slog.String("failure", f.Error()), slog.String("scope", f.Scope.String()))
	}
	if !e.Next.IsZero() {
		attrs = append(attrs, slog.Time("next", e.Next))
	}
	d.o.Log.LogAttrs(context.Background(), level, "dispatch: "+string(e.Type), attrs...)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// doDivert sends the recipients of j on to their next wish because their site is
// closed: they were not tried, so it does not count as a try.
func (d *Dispatcher) doDivert(j *job) {
	now := time.Now()
	for i := range j.idx {
		before := &j.rcpts[i]
		r := *before
		f := *j.cause
		f.Text = "not tried here now, because of an earlier failure: " + f.Text
		if f.Scope == mail.OfDestination && (r.Trouble.IsZero() || j.since.Before(r.Trouble)) {
			r.Trouble = j.since
		}
		a := mail.Attempt{At: now, Wish: r.Wish, Upstream: j.st.Message.Wishes[r.Wish].Upstream, Host: f.Remote, Failure: &f}
		after := r.After(a, j.st.Message, d.o.Schedule)
		if after.State == mail.Queued && after.Wish == r.Wish {
			continue // it may not go another way after all
		}
		after.Tries = before.Tries
		d.record(j, i, before, &after, &a)
	}
	j.tried = len(j.idx)
}

// settle writes the outcome; the owner hears of it when it is committed. A
// message that was purged meanwhile needs no settling. The outcome is the
// spool's until it has called back, and j's again then.
func (d *Dispatcher) settle(j *job) {
	if len(j.outcome.Changes) == 0 {
		d.reports <- j
		return
	}
	j.outcome.ID = j.m.id
	d.sp.Settle(j.outcome, j.settled)
}

// committed is called by the spool.
func (d *Dispatcher) committed(j *job, err error) {
	if err != nil && !errors.Is(err, spool.ErrNotFound) {
		j.err = fmt.Errorf("dispatch: settle message %s: %w", j.m.id, err)
	}
	d.reports <- j
}
