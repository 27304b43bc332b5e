package dispatch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"behalf/mail"
	"behalf/spool"
)

// Selection says what an operation is about: the messages of these IDs, or all
// that match Filter. A filter's lane, domain and recipient select recipients;
// its other fields select messages.
type Selection struct {
	IDs    []mail.ID
	Filter *spool.Filter
}

// Op says who does an operation and why.
type Op struct {
	Actor  string
	Admin  bool // the actor is an administrator of the platform
	Reason string
	Until  time.Time // Hold: released by itself then; zero: not by itself
}

// opBatch is how many messages an operation settles at once.
const opBatch = 512

// Hold takes queued recipients off the schedule. Like all operations it returns
// how many recipients it changed, once that is on stable storage. A recipient
// that is being tried is changed when its attempt has left it queued; the call
// waits for that as long as ctx allows.
func (d *Dispatcher) Hold(ctx context.Context, sel Selection, op Op) (changed int, err error) {
	return d.operateAll(ctx, sel, &operation{kind: opHold, op: op})
}

// Release puts held recipients back on the schedule, due now, or when their
// message and policy let them be tried. What policy or an administrator holds
// is released by administrators only.
func (d *Dispatcher) Release(ctx context.Context, sel Selection, op Op) (changed int, err error) {
	return d.operateAll(ctx, sel, &operation{kind: opRelease, op: op})
}

// Cancel ends queued and held recipients.
func (d *Dispatcher) Cancel(ctx context.Context, sel Selection, op Op) (changed int, err error) {
	return d.operateAll(ctx, sel, &operation{kind: opCancel, op: op})
}

// Retry makes queued recipients due now, or when their message and policy let
// them be tried, with their schedule of waits begun anew, and has closed sites
// probed at once.
func (d *Dispatcher) Retry(ctx context.Context, sel Selection, op Op) (changed int, err error) {
	return d.operateAll(ctx, sel, &operation{kind: opRetry, op: op})
}

type opKind uint8

const (
	opHold opKind = iota
	opRelease
	opCancel
	opRetry
	opExpire // the message's life has ended
	opTimer  // held until now
	opDelay  // late by the clock
)

var opEvents = [...]mail.EventType{opHold: mail.EventHeld, opRelease: mail.EventReleased, opCancel: mail.EventCancelled,
	opRetry: mail.EventRetried, opExpire: mail.EventExpired, opTimer: mail.EventReleased, opDelay: mail.EventDelayed}

// operation is one kind of change of recipients.
type operation struct {
	kind  opKind
	op    Op
	of    func(*mail.Message) bool   // nil: all
	match func(*mail.Recipient) bool // nil: all
}

// on is r after the operation; ok is false when it does not concern r.
func (o *operation) on(m *mail.Message, r mail.Recipient, now time.Time) (after mail.Recipient, ok bool) {
	if o.match != nil && !o.match(&r) {
		return r, false
	}
	switch o.kind {
	case opHold:
		return held(r, &o.op), r.State == mail.Queued
	case opRelease:
		return released(r, m, now), r.State == mail.Held && (o.op.Admin || r.HeldBy != mail.HeldByPolicy && r.HeldBy != mail.HeldByAdmin)
	case opTimer:
		return released(r, m, now), r.State == mail.Held && !r.Next.IsZero() && r.Next.UnixMilli() <= now.UnixMilli()
	case opCancel:
		return r.End(mail.Cancelled, o.op.Reason, now), !r.State.Final()
	case opExpire:
		return r.End(mail.Expired, expiredReason(m), now), !r.State.Final() && !now.Before(m.Expires)
	case opRetry:
		return retried(r, m, now)
	case opDelay:
		return r, r.State == mail.Queued
	}
	return r, false
}

func held(r mail.Recipient, op *Op) mail.Recipient {
	r = r.Hold(op.Reason, op.Until)
	r.HeldBy = mail.HeldByTenant
	if op.Admin {
		r.HeldBy = mail.HeldByAdmin
	}
	return r
}

// soonest is when r may be tried: now, but not before the time that the client
// asked for, nor before that which policy or a limit gave to it.
func soonest(r *mail.Recipient, m *mail.Message, now time.Time) time.Time {
	return later(later(now, m.NotBefore), r.NotBefore)
}

// retried is r due as soon as it may be; ok is false where it is so already and
// must wait.
func retried(r mail.Recipient, m *mail.Message, now time.Time) (after mail.Recipient, ok bool) {
	if r.State != mail.Queued {
		return r, false
	}
	at := soonest(&r, m, now)
	if at.After(now) && r.Step == 0 && r.Next.UnixMilli() == at.UnixMilli() {
		return r, false
	}
	r.Next, r.Step = at, 0
	return r, true
}

// released is r queued again, due as soon as it may be. A recipient that was
// held from the start gets its lane.
func released(r mail.Recipient, m *mail.Message, now time.Time) mail.Recipient {
	r = r.Release(soonest(&r, m, now))
	if r.Lane == "" && r.Wish < len(m.Wishes) {
		r.Lane = mail.LaneFor(m.Wishes[r.Wish].Upstream, r.Address.Domain, m.Stream)
	}
	return r
}

// outcome is what the operation does to a message, leaving alone what is being
// tried.
func (o *operation) outcome(m *mail.Message, rs []mail.Recipient, busy *bits, now time.Time) (out spool.Outcome, before []mail.Recipient) {
	out.ID = m.ID
	e := mail.Event{At: now, Type: opEvents[o.kind], Message: m.ID, Reason: o.op.Reason, Actor: o.op.Actor}
	var next time.Time // of the first
	for i := range rs {
		after, ok := o.on(m, rs[i], now)
		if !ok || o.kind != opDelay && busy.has(i) {
			continue
		}
		e.Recipients = append(e.Recipients, i)
		if next == (time.Time{}) || after.Next.Before(next) {
			next = after.Next
		}
		if o.kind != opDelay {
			out.Changes = append(out.Changes, spool.Change{Index: i, Recipient: after})
			before = append(before, rs[i])
		}
	}
	if len(e.Recipients) == 0 {
		return out, nil
	}
	switch o.kind {
	case opExpire:
		e.Reason = expiredReason(m)
		e.Attempt = lastAttempt(m, before)
	case opHold:
		e.Next = o.op.Until
	case opRetry, opRelease, opTimer:
		e.Next = next
	}
	out.Events = []mail.Event{e}
	return out, before
}

// lastAttempt tells of the last failure, for those who are told of the expiry.
func lastAttempt(m *mail.Message, rs []mail.Recipient) *mail.Attempt {
	for i := range rs {
		if f := rs[i].Last; f != nil {
			return &mail.Attempt{Wish: rs[i].Wish, Upstream: m.Wishes[min(rs[i].Wish, len(m.Wishes)-1)].Upstream, Host: f.Remote, Reply: f.Reply, Failure: f}
		}
	}
	return nil
}

// pendingOp is an operation that found recipients being tried.
type pendingOp struct {
	id     mail.ID
	o      *operation
	m      *message      // claimed for it
	done   chan struct{} // closed when it has been done
	n      int           // recipients it changed; right once done is closed
	before *pendingOp    // of which this is the rest
	err    error
}

// operateAll does o on everything selected, in batches.
func (d *Dispatcher) operateAll(ctx context.Context, sel Selection, o *operation) (changed int, err error) {
	var waits []*pendingOp
	var missing []error
	batch := func(ids []mail.ID, strict bool) error {
		n, pending, gone, err := d.operate(ctx, ids, o)
		changed += n
		waits = append(waits, pending...)
		if strict {
			for _, id := range gone {
				missing = append(missing, fmt.Errorf("message %s: %w", id, spool.ErrNotFound))
			}
		}
		return err
	}
	ids := sel.IDs
	for len(ids) > 0 && err == nil {
		n := min(opBatch, len(ids))
		err = batch(ids[:n], true)
		ids = ids[n:]
	}
	if sel.Filter != nil && err == nil {
		o.of, o.match = sel.Filter.MatchMessage, matcher(sel.Filter)
		err = d.pages(ctx, *sel.Filter, func(ids []mail.ID) error { return batch(ids, false) })
	}
	n, werr := d.await(ctx, waits)
	return changed + n, errors.Join(append(missing, err, werr)...)
}

// pages calls fn for the messages that may match f, a page at a time.
func (d *Dispatcher) pages(ctx context.Context, f spool.Filter, fn func([]mail.ID) error) error {
	cursor := ""
	for {
		ids, next, err := d.sp.Candidates(ctx, f, cursor, opBatch)
		if err != nil {
			return fmt.Errorf("dispatch: list messages: %w", err)
		}
		if len(ids) > 0 {
			if err := fn(ids); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		cursor = next
	}
}

// matcher selects recipients by the fields of f that are about recipients.
func matcher(f *spool.Filter) func(*mail.Recipient) bool {
	lane, domain, address, rule := f.Lane, f.Domain, f.Recipient, f.Rule
	if a, err := mail.ParseAddress(address); err == nil {
		address = a.Key()
	}
	return func(r *mail.Recipient) bool {
		return (lane == "" || r.Lane == lane) && (domain == "" || r.Address.Domain == domain) &&
			(address == "" || r.Address.Key() == address) &&
			(rule == "" || r.Rule == rule || strings.HasSuffix(r.Rule, ":"+rule)) &&
			(f.State == "" || r.State == f.State || r.Shown() == f.State)
	}
}

// await waits for operations on what was being tried.
func (d *Dispatcher) await(ctx context.Context, waits []*pendingOp) (changed int, err error) {
	for i, p := range waits {
		select {
		case <-p.done:
			changed += p.n
			if p.err != nil && err == nil {
				err = p.err
			}
		case <-ctx.Done():
			return changed, fmt.Errorf("dispatch: %d messages are being tried right now; the operation follows if an attempt leaves them queued: %w", len(waits)-i, context.Cause(ctx))
		case <-d.stopped:
			return changed, ErrStopped
		}
	}
	return changed, err
}
