package dispatch

import (
	"context"
	"time"

	"behalf/mail"
	"behalf/spool"
)

// trusted is how long after its acceptance the recipients of an offered message
// are taken as they are. Nothing but dispatch changes them, so the bound only
// covers what the owner may have forgotten doing.
const trusted = 30 * time.Second

// offered takes a message in that was just accepted.
func (d *Dispatcher) offered(st *spool.Stored, now time.Time) {
	if st.Message.Accepted.After(now) { // since the owner looked at the clock
		now = time.Now()
	}
	id, cost := st.Message.ID, costOf(st)
	msg := d.msgs[id]
	fresh := msg == nil && d.unseen(st, now)
	switch {
	case fresh:
		msg = &message{id: id, st: st, rcpts: st.Recipients, bytes: cost}
		d.msgs[id] = msg
	default:
		d.memory.Add(-cost)
		st.Release()
	}
	if msg != nil {
		msg.uses++
		defer d.unuse(msg)
	}
	var q *queue
	for i := range st.Recipients {
		r := &st.Recipients[i]
		if r.State != mail.Queued {
			continue
		}
		if q == nil || q.key.Lane != r.Lane {
			q = d.queueFor(spool.Queue{Lane: r.Lane, Tenant: st.Message.Tenant}, r.Next)
		}
		q.depth++
		d.enter(q, ref{id: id, at: r.Next, chunk: i / chunkSize, fresh: true, msg: msg}, now)
	}
}

// enter makes an entry of the due index known, and keeps it in the head if it
// is due and there is room.
func (d *Dispatcher) enter(q *queue, r ref, now time.Time) {
	switch n := q.head.len(); {
	case r.at.UnixMilli() > now.UnixMilli():
		d.noteFuture(q, r.at)
	case n > 0 && q.head.at(n-1).same(r.id, r.chunk):
	case !r.fresh && n < headSize && q.head.has(r.id, r.chunk): // a longer one has no room for it
	case d.push(q, r):
		d.settleIn(q)
	default:
		d.noteDue(q, r.at, 1)
	}
}

// unseen reports whether st is still as it was accepted: nobody can have tried
// or changed it, because it was not read from the due index yet.
func (d *Dispatcher) unseen(st *spool.Stored, now time.Time) bool {
	m := st.Message
	if _, touched := d.touched[m.ID]; touched || now.Sub(m.Accepted) > trusted {
		return false
	}
	for i := range st.Recipients {
		r := &st.Recipients[i]
		if i > 0 && r.Lane == st.Recipients[i-1].Lane && i%chunkSize != 0 {
			continue
		}
		q := d.queues[spool.Queue{Lane: r.Lane, Tenant: m.Tenant}]
		if q != nil && compare(&spool.Due{At: r.Next, ID: m.ID, Chunk: i / chunkSize}, &q.high) <= 0 {
			return false
		}
	}
	return true
}

// overflowed takes in what Offer found no room for.
func (d *Dispatcher) overflowed(now time.Time) {
	for k, n := range d.full.take() {
		q := d.queueFor(k, n.at)
		q.depth += n.count
		if n.at.After(now) {
			d.noteFuture(q, n.at)
		} else {
			d.noteDue(q, n.at, n.count)
		}
	}
}

// loadRequest asks for what is due in a queue after a cursor.
type loadRequest struct {
	q     *queue
	key   spool.Queue
	after spool.Due
}

type loadResult struct {
	q    *queue
	due  []spool.Due
	next time.Time // of the first entry that is not due yet; zero if none was seen
	end  bool      // nothing more was due
	err  error
}

func (d *Dispatcher) nextLoad() (chan<- loadRequest, loadRequest) {
	if len(d.wanting) == 0 || d.stopping {
		return nil, loadRequest{}
	}
	q := d.wanting[0]
	return d.loads, loadRequest{q: q, key: q.key, after: q.cursor}
}

// load is the loader's goroutine: it reads queues on from their cursors.
func (d *Dispatcher) load(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-d.loads:
			select {
			case d.loaded <- d.loadOne(ctx, r):
			case <-ctx.Done():
				return
			}
		}
	}
}

func (d *Dispatcher) loadOne(ctx context.Context, r loadRequest) loadResult {
	due, err := d.sp.Due(ctx, r.key, &r.after, headSize)
	now := time.Now()
	res := loadResult{q: r.q, end: len(due) < headSize, err: err}
	for i := range due {
		if due[i].At.UnixMilli() > now.UnixMilli() {
			res.next, res.end = due[i].At, true
			due = due[:i]
			break
		}
	}
	res.due = due
	return res
}

// read takes in what the loader found.
func (d *Dispatcher) read(r loadResult, now time.Time) {
	q := r.q
	q.loading, q.loaded, q.more = false, now, false
	if r.err != nil {
		d.o.Log.Error("dispatch: the due index cannot be read; trying again", "tenant", q.key.Tenant, "lane", q.key.Lane, "err", r.err)
		d.noteFuture(q, now.Add(time.Second))
	}
	full := false
	for i := range r.due {
		e := &r.due[i]
		if !q.head.has(e.ID, e.Chunk) {
			if full = !d.push(q, ref{id: e.ID, at: e.At, chunk: e.Chunk, msg: d.msgs[e.ID]}); full {
				break
			}
			q.behind = max(0, q.behind-1)
		}
		q.cursor = *e
	}
	if compare(&q.high, &q.cursor) < 0 {
		q.high = q.cursor
	}
	switch {
	case r.err != nil:
	case full || !r.end:
		q.more = true
		q.behind = max(1, q.behind)
	default:
		q.behind = 0
		if !r.next.IsZero() {
			d.noteFuture(q, r.next)
		}
	}
	if q.again != nil {
		q.more = true
		if compare(q.again, &q.cursor) < 0 {
			q.cursor = *q.again
		}
		q.again = nil
	}
	d.settleIn(q)
}

// scan goes through the whole due index once, at start; what it finds is tried
// while it runs. What was accepted since the dispatcher was made is offered too,
// and counted there.
func (d *Dispatcher) scan(ctx context.Context) {
	type found struct {
		key     spool.Queue
		next    time.Time
		entries int
	}
	var batch []found
	began := time.Now()
	total := 0
	hand := func() bool {
		fs := batch
		batch = nil
		return d.call(ctx, func(now time.Time) {
			for _, f := range fs {
				q := d.queueFor(f.key, f.next)
				q.depth += f.entries
				if f.next.After(now) {
					d.noteFuture(q, f.next)
				} else {
					d.noteDue(q, f.next, f.entries)
				}
			}
		}) == nil
	}
	for {
		err := d.sp.Queues(ctx, d.made, func(q spool.Queue, next time.Time, entries int) bool {
			total += entries
			batch = append(batch, found{q, next, entries})
			return len(batch) < 256 || hand()
		})
		if err == nil && (len(batch) == 0 || hand()) {
			d.o.Log.Info("dispatch: queues read", "entries", total, "took", time.Since(began).String())
			return
		}
		if ctx.Err() != nil {
			return
		}
		d.o.Log.Error("dispatch: the due index cannot be read; trying again", "err", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return
		}
	}
}
