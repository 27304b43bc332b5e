package dispatch

import (
	"context"
	"errors"
	"fmt"
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
	Reason string
	Until  time.Time // Hold: released by itself then; zero: not by itself
}

// opBatch is how many messages an operation settles at once.
const opBatch = 200

// Hold takes queued recipients off the schedule. Like all operations it returns
// how many recipients it changed, once that is on stable storage. A recipient
// that is being tried is changed when its attempt has left it queued; the call
// waits for that as long as ctx allows.
func (d *Dispatcher) Hold(ctx context.Context, sel Selection, op Op) (changed int, err error) {
	return d.operateAll(ctx, sel, &operation{kind: opHold, op: op})
}

// Release puts held recipients back on the schedule, due now.
func (d *Dispatcher) Release(ctx context.Context, sel Selection, op Op) (changed int, err error) {
	return d.operateAll(ctx, sel, &operation{kind: opRelease, op: op})
}

// Cancel ends queued and held recipients.
func (d *Dispatcher) Cancel(ctx context.Context, sel Selection, op Op) (changed int, err error) {
	return d.operateAll(ctx, sel, &operation{kind: opCancel, op: op})
}

// Retry makes queued recipients due now, with their schedule of waits begun
// anew, and has closed sites probed at once.
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
	match func(*mail.Recipient) bool // nil: all
}

// on is r after the operation; ok is false when it does not concern r.
func (o *operation) on(m *mail.Message, r mail.Recipient, now time.Time) (after mail.Recipient, ok bool) {
	if o.match != nil && !o.match(&r) {
		return r, false
	}
	switch o.kind {
	case opHold:
		return r.Hold(o.op.Reason, o.op.Until), r.State == mail.Queued
	case opRelease:
		return laned(r.Release(now), m), r.State == mail.Held
	case opTimer:
		return laned(r.Release(now), m), r.State == mail.Held && !r.Next.IsZero() && r.Next.UnixMilli() <= now.UnixMilli()
	case opCancel:
		return r.End(mail.Cancelled, o.op.Reason, now), !r.State.Final()
	case opExpire:
		return r.End(mail.Expired, expiredReason(m), now), !r.State.Final() && !now.Before(m.Expires)
	case opRetry:
		ok = r.State == mail.Queued
		if ok {
			r.Next, r.Step = now, 0
		}
		return r, ok
	case opDelay:
		return r, r.State == mail.Queued
	}
	return r, false
}

// laned makes sure that a released recipient has a lane.
func laned(r mail.Recipient, m *mail.Message) mail.Recipient {
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
	for i := range rs {
		after, ok := o.on(m, rs[i], now)
		if !ok || o.kind != opDelay && busy.has(i) {
			continue
		}
		e.Recipients = append(e.Recipients, i)
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
		e.Next = now
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
		o.match = matcher(sel.Filter)
		err = d.pages(ctx, *sel.Filter, func(ids []mail.ID) error { return batch(ids, false) })
	}
	n, werr := d.await(ctx, waits)
	return changed + n, errors.Join(append(missing, err, werr)...)
}

// pages calls fn for the messages that match f, a page at a time.
func (d *Dispatcher) pages(ctx context.Context, f spool.Filter, fn func([]mail.ID) error) error {
	cursor := ""
	for {
		page, next, err := d.sp.List(ctx, f, cursor, opBatch)
		if err != nil {
			return fmt.Errorf("dispatch: list messages: %w", err)
		}
		ids := make([]mail.ID, len(page))
		for i, st := range page {
			ids[i] = st.Message.ID
			st.Release()
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
	lane, domain, address := f.Lane, f.Domain, f.Recipient
	if a, err := mail.ParseAddress(address); err == nil {
		address = a.Key()
	}
	return func(r *mail.Recipient) bool {
		return (lane == "" || r.Lane == lane) && (domain == "" || r.Address.Domain == domain) &&
			(address == "" || r.Address.Key() == address) &&
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

// claim is a message that an operation has for itself: no new job of it starts
// until it is given back.
type claim struct {
	id    mail.ID
	m     *message
	msg   *mail.Message
	rcpts []mail.Recipient // as they are now; nil when the message is to be read
	busy  bits
}

// operate does o on a batch of messages. What is being tried is left for
// later, in pending.
func (d *Dispatcher) operate(ctx context.Context, ids []mail.ID, o *operation) (changed int, pending []*pendingOp, gone []mail.ID, err error) {
	select {
	case d.oneOp <- struct{}{}:
		defer func() { <-d.oneOp }()
	case <-ctx.Done():
		return 0, nil, nil, fmt.Errorf("dispatch: %w", context.Cause(ctx))
	case <-d.stopped:
		return 0, nil, nil, ErrStopped
	}
	claims := make([]claim, len(ids))
	if err := d.call(ctx, func(time.Time) { d.claim(ids, claims) }); err != nil {
		return 0, nil, nil, err
	}
	var outs []spool.Outcome
	var befores [][]mail.Recipient
	kept := claims[:0:0]
	now := time.Now()
	for i := range claims {
		c := &claims[i]
		switch lerr := d.fill(ctx, c); {
		case errors.Is(lerr, spool.ErrNotFound):
			gone = append(gone, c.id)
			continue
		case lerr != nil:
			err = errors.Join(err, lerr)
			continue
		}
		kept = append(kept, *c)
		if out, before := o.outcome(c.msg, c.rcpts, &c.busy, now); len(out.Events) > 0 {
			outs, befores = append(outs, out), append(befores, before)
			changed += len(out.Changes)
		}
	}
	if serr := d.store(ctx, outs); serr != nil {
		d.quietly(func(time.Time) { d.fail(serr); d.unclaim(claims) })
		return 0, nil, gone, errors.Join(err, serr)
	}
	d.quietly(func(now time.Time) { pending = d.operated(o, claims, kept, outs, befores, now) })
	return changed, pending, gone, err
}

// storeMost is how many recipients of one message are settled in one
// transaction.
const storeMost = 512

// store settles the outcomes of an operation. Whoever asked for it may go, but
// what was begun must be known to have ended.
func (d *Dispatcher) store(ctx context.Context, outs []spool.Outcome) error {
	var all []spool.Outcome
	for _, o := range outs {
		all = append(all, parts(o, storeMost)...)
	}
	if len(all) == 0 {
		return nil
	}
	err := d.sp.SettleNow(context.WithoutCancel(ctx), all)
	if err != nil && !errors.Is(err, spool.ErrNotFound) { // those that were purged meanwhile need nothing
		return fmt.Errorf("dispatch: store the operation: %w", err)
	}
	return nil
}

// parts cuts an outcome of one event into pieces of at most n recipients.
func parts(o spool.Outcome, n int) (ps []spool.Outcome) {
	for len(o.Changes) > n {
		e := o.Events[0]
		e.Recipients = e.Recipients[:n]
		ps = append(ps, spool.Outcome{ID: o.ID, Changes: o.Changes[:n], Events: []mail.Event{e}})
		rest := o.Events[0]
		rest.Recipients = rest.Recipients[n:]
		o.Changes, o.Events = o.Changes[n:], []mail.Event{rest}
	}
	return append(ps, o)
}

// quietly runs fn on the owner unless that has ended.
func (d *Dispatcher) quietly(fn func(now time.Time)) { _ = d.call(context.Background(), fn) }

// claim runs on the owner.
func (d *Dispatcher) claim(ids []mail.ID, claims []claim) {
	for i, id := range ids {
		m := d.msgs[id]
		if m == nil {
			m = &message{id: id}
			d.msgs[id] = m
		}
		m.uses++
		m.claims++
		c := &claims[i]
		c.id, c.m = id, m
		c.busy = m.busy.clone()
		if m.st != nil {
			c.msg, c.rcpts = m.st.Message, m.rcpts
			if m.own {
				c.rcpts = append([]mail.Recipient(nil), m.rcpts...)
			}
		}
	}
}

// fill reads what the owner did not have.
func (d *Dispatcher) fill(ctx context.Context, c *claim) error {
	if c.msg != nil {
		return nil
	}
	st, err := d.sp.Load(ctx, c.id)
	if err != nil {
		return fmt.Errorf("dispatch: message %s: %w", c.id, err)
	}
	c.msg, c.rcpts = st.Message, st.Recipients
	st.Release()
	return nil
}

// unclaim runs on the owner.
func (d *Dispatcher) unclaim(claims []claim) {
	for i := range claims {
		m := claims[i].m
		m.claims--
		d.resume(m)
		d.unuse(m)
	}
}

// operated runs on the owner: it takes in what the operation has done, and
// leaves it with the messages that were being tried.
func (d *Dispatcher) operated(o *operation, claims, kept []claim, outs []spool.Outcome, befores [][]mail.Recipient, now time.Time) (pending []*pendingOp) {
	byID := make(map[mail.ID]int, len(outs))
	for i := range outs {
		byID[outs[i].ID] = i
	}
	for k := range kept {
		c := &kept[k]
		if i, ok := byID[c.id]; ok {
			d.changed(c.m, o, outs[i].Changes, befores[i], now)
		}
		if p := d.remember(o, c); p != nil {
			pending = append(pending, p)
		}
	}
	d.unclaim(claims)
	return pending
}

// changed takes the changes of an operation into the schedule.
func (d *Dispatcher) changed(m *message, o *operation, changes []spool.Change, before []mail.Recipient, now time.Time) {
	m.version++
	if now.Sub(m.id.Time()) < trusted {
		d.touched[m.id] = now
	}
	for i := range before {
		if before[i].State != mail.Queued {
			continue
		}
		if q := d.queues[spool.Queue{Lane: before[i].Lane, Tenant: m.id.Tenant()}]; q != nil {
			q.depth = max(0, q.depth-1)
			if o.kind == opRetry {
				d.hasten(q, now)
			}
		}
	}
	d.apply(m, changes, now)
}

// remember leaves o with a message of which recipients are being tried that it
// would concern.
func (d *Dispatcher) remember(o *operation, c *claim) *pendingOp {
	if o.kind == opDelay || c.busy.n == 0 {
		return nil
	}
	now := time.Now()
	concerned, ended := false, false
	for i := range c.rcpts {
		if _, ok := o.on(c.msg, c.rcpts[i], now); ok && c.busy.has(i) {
			concerned = true
			ended = ended || !c.m.busy.has(i) // while the operation was stored
		}
	}
	if !concerned {
		return nil
	}
	for _, p := range c.m.pending {
		if p.o.kind == o.kind && o.kind >= opExpire {
			return nil // the sweeper comes by each second
		}
	}
	p := &pendingOp{id: c.id, o: o, done: make(chan struct{})}
	c.m.pending = append(c.m.pending, p)
	if ended {
		d.hurry(c.m)
	}
	return p
}

// hurry has the operations that waited for attempts at m done next, before
// anything else is tried of it.
func (d *Dispatcher) hurry(m *message) {
	for _, p := range m.pending {
		p.m = m
		m.claims++
		m.uses++
		d.todo = append(d.todo, p)
	}
	m.pending = nil
}

func (d *Dispatcher) nextChore() (chan<- *pendingOp, *pendingOp) {
	if len(d.todo) == 0 {
		return nil, nil
	}
	return d.chores, d.todo[0]
}

// doChores is the goroutine that does operations which waited for an attempt.
func (d *Dispatcher) doChores(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-d.chores:
			d.doChore(ctx, p)
		}
	}
}

func (d *Dispatcher) doChore(ctx context.Context, p *pendingOp) {
	n, pending, _, err := d.operate(ctx, []mail.ID{p.id}, p.o)
	d.quietly(func(time.Time) { d.unclaim([]claim{{m: p.m}}) })
	p.n, p.err = p.n+n, err
	if len(pending) > 0 { // others of its recipients are still being tried
		pending[0].before, pending[0].n = p, p.n
		return
	}
	for last := p; p != nil; p = p.before {
		p.n, p.err = last.n, last.err
		close(p.done)
	}
}
