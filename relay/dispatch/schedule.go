package dispatch

import (
	"time"

	"behalf/mail"
	"behalf/spool"
)

const (
	freshMost  = headSize / 2          // offered references in a head while older ones wait behind it
	readBelow  = headSize / 4          // read on when fewer of the others are left
	readRoom   = headSize - headSize/4 // and there is room for what is read
	siteAge    = 15 * time.Minute
	maxTargets = 100 // recipients a job
)

// queueFor finds or makes a queue. What is due there at or after at is known to
// be live; nothing before it is, or somebody else says so.
func (d *Dispatcher) queueFor(k spool.Queue, at time.Time) *queue {
	q := d.queues[k]
	if q != nil {
		return q
	}
	t := d.tenants[k.Tenant]
	if t == nil {
		t = &tenant{id: k.Tenant}
		d.tenants[k.Tenant] = t
	}
	t.queues++
	q = newQueue(k, t, at)
	d.queues[k] = q
	if key, ok := siteKey(k); ok {
		d.assign(q, key, time.Time{})
	}
	return q
}

// assign puts q under the site of that key.
func (d *Dispatcher) assign(q *queue, key string, now time.Time) {
	q.sited = now
	if q.site != nil {
		if q.site.key == key {
			return
		}
		d.leave(q)
	}
	s := d.sites[key]
	if s == nil {
		initial := d.o.WindowOther
		if u, _, _ := q.key.Lane.Parts(); u == mail.UpstreamMX {
			initial = d.o.WindowMX
		}
		s = &site{key: key, window: NewWindow(initial, d.o.WindowMax), open: true, used: now}
		s.alarm.site = s
		d.sites[key] = s
	}
	d.count(q, 0)
	q.site, q.epoch = s, s.epoch
	s.queues++
	d.recount(q)
}

// leave takes q from its site.
func (d *Dispatcher) leave(q *queue) {
	d.count(q, 0)
	q.site.queues--
	if q.promised {
		q.promised = false
		q.site.promised--
	}
	q.site = nil
	q.unskip()
}

// recount keeps the number of ready jobs.
func (d *Dispatcher) recount(q *queue) { d.count(q, q.ready()) }

func (d *Dispatcher) count(q *queue, n int) {
	delta := n - q.counted
	q.counted = n
	if q.site == nil {
		d.unsited += delta
		return
	}
	q.site.ready += delta
	if q.site.open {
		d.ready += delta
	}
}

func (d *Dispatcher) openReady() int { return max(0, d.ready+d.unsited) }

// push puts r into the head of its queue if there is room. Those that were
// offered must leave room for what waits behind the head.
func (d *Dispatcher) push(q *queue, r ref) bool {
	n := q.head.len()
	switch {
	case n >= headSize && !d.stretches(q, r), n > 0 && d.refs >= d.o.Heads:
		return false
	case r.fresh && q.more && q.fresh >= freshMost:
		return false
	}
	q.head.pushBack(r)
	d.hold(q, r)
	return true
}

// stretches reports whether the head of q may take r beyond its size: a message
// in memory would have to be read again if it were left behind it. Nothing
// older may wait there, and half of what all heads share is kept for those of
// the usual size.
func (d *Dispatcher) stretches(q *queue, r ref) bool {
	return r.fresh && r.msg != nil && r.msg.bytes > 0 && !q.more && q.head.len() < youngSize &&
		d.refs < d.o.Heads/2 && d.memory.Load() <= d.o.Young/2
}

// pushBack returns a reference to the front of the head it was taken from.
func (d *Dispatcher) pushBack(q *queue, r ref) {
	q.head.pushFront(r)
	d.hold(q, r)
}

func (d *Dispatcher) hold(q *queue, r ref) {
	d.refs++
	if r.fresh {
		q.fresh++
	}
	if r.msg != nil {
		r.msg.uses++
	}
}

// pop takes a reference off the head; its message keeps one use for the caller.
func (d *Dispatcher) pop(q *queue) ref {
	r := q.takeRef()
	d.refs--
	if r.msg == nil {
		if r.msg = d.msgs[r.id]; r.msg == nil {
			r.msg = &message{id: r.id}
			d.msgs[r.id] = r.msg
		}
		r.msg.uses++
	}
	return r
}

// unuse gives up one use of a message; the last one forgets it.
func (d *Dispatcher) unuse(m *message) {
	if m.uses--; m.uses > 0 {
		return
	}
	delete(d.msgs, m.id)
	d.drop(m)
}

func (d *Dispatcher) drop(m *message) {
	if m.bytes > 0 {
		d.memory.Add(-m.bytes)
		m.bytes = 0
		m.st.Release()
	}
}

// noteDue says that n recipients are due in q from at on which the head has no
// room for.
func (d *Dispatcher) noteDue(q *queue, at time.Time, n int) {
	q.behind += n
	q.rewind(at)
	d.settleIn(q)
}

// noteFuture says that something in q becomes due at at.
func (d *Dispatcher) noteFuture(q *queue, at time.Time) {
	if c := before(at); compare(&c, &q.cursor) < 0 {
		q.lower(at)
	}
	if q.wake.IsZero() || at.Before(q.wake) {
		q.wake = at
		d.alarms.sooner(&q.alarm, at)
	}
}

// woken is called when q's alarm has rung.
func (d *Dispatcher) woken(q *queue, now time.Time) {
	if !q.wake.IsZero() {
		if q.wake.After(now) {
			d.alarms.set(&q.alarm, q.wake)
			return
		}
		q.wake = time.Time{}
		q.more = true
	}
	if q.idle() && now.Sub(q.loaded) >= lingers {
		d.forget(q)
		return
	}
	d.settleIn(q)
}

// forget drops a queue with nothing in it.
func (d *Dispatcher) forget(q *queue) {
	d.alarms.drop(&q.alarm)
	if q.site != nil {
		q.site.used = time.Now()
		d.leave(q)
	} else {
		d.count(q, 0)
	}
	q.tenant.queues--
	delete(d.queues, q.key)
}

// settleIn puts q where it belongs after anything about it changed: in the
// ring if it has something to try, in line for the loader if there is more
// behind its head, at rest if all it has waits for its site.
func (d *Dispatcher) settleIn(q *queue) {
	d.recount(q)
	d.want(q)
	if q.site != nil && q.in == &q.site.resting && q.head.len() > 0 {
		q.in.remove(q)
	}
	switch {
	case q.in != nil || q.asking:
	case q.head.len() > 0:
		d.enlist(q)
	case q.more:
	case !q.skipped.IsZero():
		q.site.resting.push(q)
	case q.busy == 0:
		if q.alarm.pos == 0 {
			d.alarms.set(&q.alarm, time.Now().Add(q.lingers()))
		}
	}
}

// want has the loader read on when the head runs low.
func (d *Dispatcher) want(q *queue) {
	n := q.head.len()
	if !q.more || q.loading || n-q.fresh >= readBelow || n >= readRoom || n > 0 && d.refs >= d.o.Heads {
		return
	}
	q.loading = true
	d.wanting = append(d.wanting, q)
}

// schedule starts jobs while there are workers for them.
func (d *Dispatcher) schedule(now time.Time) {
	for !d.noPlace() {
		q := d.nextInRing()
		if q == nil {
			return
		}
		d.step(q, now)
	}
}

// enlist puts q into the ring.
func (d *Dispatcher) enlist(q *queue) {
	d.ring.push(q)
	if q.site != nil && !q.low {
		q.site.lined++
	}
}

func (d *Dispatcher) nextInRing() *queue {
	q := d.ring.pop()
	if q != nil && q.site != nil && !q.low {
		q.site.lined--
	}
	return q
}

// step gives q its turn: one job at most, or the line in which it waits. What
// it does not use is offered to the next in those lines.
func (d *Dispatcher) step(q *queue, now time.Time) {
	s := q.site
	if q.promised {
		q.promised = false
		s.promised--
	}
	if s != nil && (q.epoch != s.epoch || s.open) {
		q.epoch = s.epoch
		q.unskip()
	}
	switch {
	case q.head.len() == 0:
		d.settleIn(q)
	case d.capped(q.tenant):
		q.tenant.capped.push(q)
	case s == nil || s.open && !q.sited.IsZero() && now.Sub(q.sited) > siteAge:
		d.ask(q, now)
	case !s.open && !s.mayProbe(now):
		d.divert(q, now)
	case s.open && s.pace.Next(now).After(now):
		s.wait(q)
		d.alarms.sooner(&s.alarm, s.pace.Next(now))
	case d.room(s, now) <= 0:
		s.wait(q)
	default:
		d.launch(q, now)
		d.settleIn(q)
	}
	if s != nil {
		d.unpark(s, now)
	}
	d.uncap(q.tenant)
}

// unpark sends as many queues to the ring as their site has slots for.
func (d *Dispatcher) unpark(s *site, now time.Time) {
	if !s.open {
		d.unparkClosed(s, now)
		return
	}
	n := d.room(s, now)
	if n <= 0 {
		return
	}
	if at := s.pace.Next(now); at.After(now) {
		d.alarms.sooner(&s.alarm, at)
		return
	}
	if s.pace.Rate() > 0 {
		n = min(n, max(1, int(s.pace.tokens)))
	}
	for ; n > 0; n-- {
		q := s.waiter()
		if q == nil {
			q = s.resting.pop()
		}
		if q == nil {
			return
		}
		d.promise(q)
	}
}

func (d *Dispatcher) promise(q *queue) {
	q.promised = true
	q.site.promised++
	d.enlist(q)
}

// unparkClosed finds a probe for a closed site when it is time, and sends
// others to look for another way.
func (d *Dispatcher) unparkClosed(s *site, now time.Time) {
	if s.mayProbe(now) {
		if q := d.prober(s); q != nil {
			d.promise(q)
		}
	}
	if !s.divertable(now) {
		return
	}
	for n := maxDiverting - s.diverting; n > 0; n-- {
		q := s.waiter()
		if q == nil && s.resting.head != nil && s.resting.head.epoch != s.epoch {
			q = s.resting.pop()
		}
		if q == nil {
			return
		}
		d.enlist(q)
	}
}

// prober finds a queue with something to try at a closed site.
func (d *Dispatcher) prober(s *site) *queue {
	if q := s.waiter(); q != nil {
		return q
	}
	q := s.resting.pop()
	if q == nil {
		return nil
	}
	if q.spare.id.IsZero() {
		q.unskip()
		d.settleIn(q)
		return nil
	}
	d.pushBack(q, q.spare)
	q.spare = ref{}
	return q
}

// look sees whether a site has opened or closed, and sets its alarm.
func (d *Dispatcher) look(s *site, now time.Time) {
	switch shut := s.shut(now); {
	case shut && s.open:
		s.open = false
		s.epoch++
		s.closedAt = now
		d.ready -= s.ready
		d.siteClosed(s, now)
	case !shut && !s.open:
		s.open = true
		s.epoch++
		d.ready += s.ready
		d.openings++
		d.o.Log.Info("dispatch: site is open again", "site", s.key)
	}
	if !s.open {
		s.from = now
		if since := s.window.Since(); s.suspensions == 0 && !s.suspended.After(now) && !since.IsZero() {
			s.from = since.Add(d.o.Schedule.FailoverAfter)
		}
		at := s.probeAt()
		if s.from.After(now) && s.from.Before(at) || !at.After(now) {
			at = s.from
		}
		if at.After(now) {
			d.alarms.set(&s.alarm, at)
		}
		if s.divertable(now) && s.openings != d.openings {
			s.openings = d.openings // another site has opened: look once more
			s.epoch++
		}
	}
	d.unpark(s, now)
}

func (d *Dispatcher) siteClosed(s *site, now time.Time) {
	s.openings = d.openings
	text := ""
	if f := s.cause(); f != nil {
		text = f.Error()
	}
	d.o.Log.Warn("dispatch: site is closed; mail for it waits or goes another way", "site", s.key, "probe", s.probeAt().Sub(now).String(), "cause", text)
}

// tidy forgets what nobody asks for any more.
func (d *Dispatcher) tidy(now time.Time) {
	d.tidied = now
	d.ring.forgive()
	for k, s := range d.sites {
		if s.idle(now) {
			d.alarms.drop(&s.alarm)
			delete(d.sites, k)
			continue
		}
		d.unpark(s, now) // what waited while the waiting account was crowded
	}
	for id, t := range d.tenants {
		if t.queues == 0 && t.busy == 0 {
			delete(d.tenants, id)
			continue
		}
		d.uncap(t)
	}
	for id, at := range d.touched {
		if now.Sub(at) > trusted {
			delete(d.touched, id)
		}
	}
	for id, until := range d.stuck {
		if now.After(until) {
			delete(d.stuck, id)
		}
	}
}
