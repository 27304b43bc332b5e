package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"behalf/mail"
	"behalf/spool"
)

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
		if o.of != nil && !o.of(c.msg) {
			continue
		}
		kept = append(kept, *c)
		if out, before := o.outcome(c.msg, c.rcpts, &c.busy, now); len(out.Events) > 0 {
			d.suppressReleased(ctx, o, c.msg, &out, now)
			outs, befores = append(outs, out), append(befores, before)
			changed += len(out.Changes)
		}
	}
	told := d.tellReleased(ctx, o, outs, befores)
	large, serr := d.store(ctx, outs)
	<-told
	if serr != nil {
		d.quietly(func(time.Time) { d.fail(serr); d.unclaim(claims) })
		return 0, nil, gone, errors.Join(err, serr)
	}
	if large != nil {
		changed -= d.missed(ctx, large.IDs, outs, befores)
		err = errors.Join(err, fmt.Errorf("dispatch: store the operation: %w", large))
	}
	d.quietly(func(now time.Time) { pending = d.operated(o, claims, kept, outs, befores, now) })
	return changed, pending, gone, err
}

// storeMost is how many recipients of one message are settled in one
// transaction.
const storeMost = 512

// store settles the outcomes of an operation. Whoever asked for it may go, but
// what was begun must be known to have ended. What is too large to store is
// told of by large, and is no reason to stop.
func (d *Dispatcher) store(ctx context.Context, outs []spool.Outcome) (large *spool.TooLargeError, err error) {
	var all []spool.Outcome
	for _, o := range outs {
		all = append(all, parts(o, storeMost)...)
	}
	if len(all) == 0 {
		return nil, nil
	}
	err = d.sp.SettleNow(context.WithoutCancel(ctx), all)
	switch {
	case errors.As(err, &large):
		d.o.Log.Error("dispatch: an operation is too large to store for some messages; they stay as they are", "messages", large.IDs, "err", large.Err)
		return large, nil
	case err != nil && !errors.Is(err, spool.ErrNotFound): // those that were purged meanwhile need nothing
		return nil, fmt.Errorf("dispatch: store the operation: %w", err)
	}
	return nil, nil
}

// missed makes the outcomes of those messages what is really stored, which is
// some of them or nothing, and returns how many changes were not written.
func (d *Dispatcher) missed(ctx context.Context, ids []mail.ID, outs []spool.Outcome, befores [][]mail.Recipient) (n int) {
	for i := range outs {
		o := &outs[i]
		if !slices.Contains(ids, o.ID) {
			continue
		}
		changes := o.Changes
		o.Changes = d.stored(ctx, o.ID, changes)
		if o.Changes == nil {
			n, befores[i] = n+len(changes), nil
			continue
		}
		for k := range changes {
			if a, b := &changes[k].Recipient, &o.Changes[k].Recipient; a.State != b.State || a.Next.UnixMilli() != b.Next.UnixMilli() {
				n++
			}
		}
	}
	return n
}

// stored reads what the recipients of changes are in the spool; nil if that
// cannot be known.
func (d *Dispatcher) stored(ctx context.Context, id mail.ID, changes []spool.Change) []spool.Change {
	st, err := d.sp.Load(context.WithoutCancel(ctx), id)
	if err != nil {
		if !errors.Is(err, spool.ErrNotFound) {
			d.o.Log.Error("dispatch: a message cannot be read", "message", id, "err", err)
		}
		return nil
	}
	defer st.Release()
	is := make([]spool.Change, len(changes))
	for k, c := range changes {
		is[k] = spool.Change{Index: c.Index, Recipient: st.Recipients[c.Index]}
	}
	return is
}

// tellReleased tells of recipients that were held and are let go, while the release is stored. The channel is closed when that has been done.
func (d *Dispatcher) tellReleased(ctx context.Context, o *operation, outs []spool.Outcome, befores [][]mail.Recipient) <-chan struct{} {
	done := make(chan struct{})
	if o.kind != opRelease && o.kind != opTimer || d.o.Released == nil {
		close(done)
		return done
	}
	who := map[mail.TenantID][]mail.Address{}
	for i := range outs {
		t := outs[i].ID.Tenant()
		for k := range befores[i] {
			who[t] = append(who[t], befores[i][k].Address)
		}
	}
	go func() {
		defer close(done)
		if len(who) > 0 {
			d.o.Released(context.WithoutCancel(ctx), who)
		}
	}()
	return done
}

// parts cuts an outcome of one event into pieces of at most n recipients. Those
// of several are rare, and cut by the spool if they must be.
func parts(o spool.Outcome, n int) (ps []spool.Outcome) {
	for len(o.Events) == 1 && len(o.Changes) > n {
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
