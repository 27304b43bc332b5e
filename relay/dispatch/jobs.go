package dispatch

import (
	"errors"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
	"behalf/spool"
)

// start gives j to a worker.
func (d *Dispatcher) start(j *job, now time.Time) {
	d.busy++
	d.takePlace(j, now)
	j.q.busy++
	j.q.tenant.busy++
	j.m.uses++
	if j.slot {
		j.s.busy++
	}
	if j.diverting {
		j.s.diverting++
	}
	d.work <- j
}

// job gives one to fill.
func (d *Dispatcher) job() *job {
	n := len(d.spare) - 1
	if n < 0 {
		j := &job{}
		j.settled = func(err error) { d.committed(j, err) }
		return j
	}
	j := d.spare[n]
	d.spare = d.spare[:n]
	return j
}

// maxSpare is how many jobs are kept to be used again.
const maxSpare = 64

// end gives back what j occupied, and lets others have it. j is another's from
// then on.
func (d *Dispatcher) end(j *job, now time.Time) {
	d.busy--
	d.giveBack(j)
	j.q.busy--
	j.q.tenant.busy--
	d.uncap(j.q.tenant)
	if j.s != nil {
		j.s.used = now
		if j.slot {
			j.s.busy--
		}
		if j.diverting {
			j.s.diverting--
		}
		d.look(j.s, now)
	}
	d.settleIn(j.q)
	d.unuse(j.m)
	if len(d.spare) < maxSpare {
		*j = job{settled: j.settled}
		d.spare = append(d.spare, j)
	}
}

// uncap sends the next queue that waits for its tenant's bound to the ring.
func (d *Dispatcher) uncap(t *tenant) {
	if !d.capped(t) {
		if q := t.capped.pop(); q != nil {
			d.enlist(q)
		}
	}
}

// ask has a worker find out where q's lane leads. It needs a message for that.
func (d *Dispatcher) ask(q *queue, now time.Time) {
	r := d.pop(q)
	m := r.msg
	q.asking = true
	j := d.job()
	j.kind, j.q, j.m, j.r, j.version, j.lane, j.st = jobAsk, q, m, r, m.version, q.key.Lane, m.st
	d.start(j, now)
	d.pushBack(q, r)
	d.unuse(m)
}

// launch starts the next job of q, in a slot of its site.
func (d *Dispatcher) launch(q *queue, now time.Time) {
	r := d.pop(q)
	m := r.msg
	defer d.unuse(m)
	if d.park(q, r) {
		return
	}
	j := d.job()
	j.q, j.s, j.m, j.r, j.lane, j.slot = q, q.site, m, r, q.key.Lane, true
	switch {
	case m.st == nil:
		d.fetch(j, now)
	case d.pick(j, now):
		d.start(j, now)
	}
}

// park puts r aside while its message is being read or an operation is at it.
func (d *Dispatcher) park(q *queue, r ref) bool {
	m := r.msg
	if m.claims == 0 && !m.reading {
		return false
	}
	m.uses++
	m.parked = append(m.parked, parkedRef{q, r})
	return true
}

// resume sends parked references back to the fronts of their queues.
func (d *Dispatcher) resume(m *message) {
	if m.claims > 0 || m.reading {
		return
	}
	parked := m.parked
	m.parked = nil
	for _, p := range parked {
		d.pushBack(p.q, p.r)
		d.settleIn(p.q)
		d.unuse(m)
	}
}

// fetch has a worker load j's message.
func (d *Dispatcher) fetch(j *job, now time.Time) {
	j.kind, j.version, j.m.reading = jobRead, j.m.version, true
	d.start(j, now)
}

// pick chooses the recipients of j among those its reference points to, and
// those of the next references if they are of the same message. It reports
// false when none is due.
func (d *Dispatcher) pick(j *job, now time.Time) bool {
	q, m := j.q, j.m
	rest := d.pickChunk(j, j.r.chunk, now)
	if rest {
		d.pushBack(q, j.r)
	}
	for !rest && len(j.idx) < maxTargets && q.head.len() > 0 && q.head.at(0).id == m.id {
		r := d.pop(q)
		if rest = d.pickChunk(j, r.chunk, now); rest {
			d.pushBack(q, r)
		}
		d.unuse(m)
	}
	if len(j.idx) == 0 {
		return false
	}
	j.st = m.st
	m.jobs++
	if j.kind == jobTry {
		j.s.pace.Take(now, len(j.idx))
	}
	d.ring.charge(q.key.Tenant, len(j.idx)-1)
	return true
}

// pickChunk adds the recipients of a chunk that are due and not being tried.
// All of a job go by the same wish, and are either tried or diverted. It
// reports whether some were left for another job; those that must wait for a
// closed site are put by instead.
func (d *Dispatcher) pickChunk(j *job, chunk int, now time.Time) (rest bool) {
	m := j.m
	most := maxTargets
	if m.st.Message.Unsubscribe {
		most = 1 // its fields differ from recipient to recipient
	}
	for i := chunk * chunkSize; i < min(len(m.rcpts), (chunk+1)*chunkSize); i++ {
		r := &m.rcpts[i]
		here, due := dueAt(r, j.lane, now)
		switch {
		case !here || m.busy.has(i):
			continue
		case !due:
			d.noteFuture(j.q, r.Next)
			continue
		}
		kind, at := d.course(j, r, now)
		switch {
		case at.After(now):
			j.q.lower(r.Next) // where its entry is found again then
			d.noteFuture(j.q, at)
			continue
		case kind == jobTry && j.diverting:
			d.skip(j.q, ref{id: m.id, at: r.Next, chunk: chunk})
			continue
		}
		if len(j.idx) == 0 {
			j.kind = kind
		}
		if kind != j.kind || len(j.idx) > 0 && r.Wish != j.rcpts[0].Wish || len(j.idx) >= most {
			rest = true
			continue
		}
		m.busy.add(i)
		if j.idx == nil {
			j.idx, j.rcpts = j.one.idx[:0], j.one.rcpts[:0]
		}
		j.idx = append(j.idx, i)
		j.rcpts = append(j.rcpts, *r)
	}
	return rest
}

// slowConnect is how long a failing connection takes when its next failure
// would come too late to wait for.
const slowConnect = 5 * time.Second

// course says whether a recipient is tried here or diverted, and when if not
// now. At an open site it is diverted when nobody has had a session since its
// trouble began, and one more try is known to end only after the time for
// failover, which is waited for instead.
func (d *Dispatcher) course(j *job, r *mail.Recipient, now time.Time) (kind jobKind, at time.Time) {
	s, m := j.s, j.m.st.Message
	if until := d.stuck[j.m.id]; until.After(now) {
		return jobTry, until
	}
	if j.diverting {
		if d.hasOtherWay(m, r) {
			return jobDivert, now
		}
		return jobTry, now
	}
	since := s.window.Since()
	if r.Trouble.IsZero() || since.IsZero() || since.After(r.Trouble) || s.slow < slowConnect || s.down == nil || r.Pinned || r.Wish+1 >= len(m.Wishes) {
		return jobTry, now
	}
	over := r.Trouble.Add(d.o.Schedule.FailoverAfter)
	if over.After(now.Add(s.slow)) {
		return jobTry, now
	}
	j.cause, j.since = s.down, since
	return jobDivert, over
}

// hasOtherWay reports whether another wish leads to a site that is not known to
// be closed.
func (d *Dispatcher) hasOtherWay(m *mail.Message, r *mail.Recipient) bool {
	if r.Pinned {
		return false
	}
	for i := range m.Wishes {
		if i == r.Wish || i > 0 && i < r.Wish {
			continue // the way goes on to the next, and from the last to the first
		}
		k := spool.Queue{Lane: mail.LaneFor(m.Wishes[i].Upstream, r.Address.Domain, m.Stream), Tenant: m.Tenant}
		var s *site
		if key, ok := siteKey(k); ok {
			s = d.sites[key]
		} else if q := d.queues[k]; q != nil {
			s = q.site
		}
		if s == nil || s.open {
			return true
		}
	}
	return false
}

// divert goes through q's head while its site is closed: what may go another
// way does, the rest is put by until the site opens.
func (d *Dispatcher) divert(q *queue, now time.Time) {
	s := q.site
	if !s.divertable(now) {
		s.wait(q)
		return
	}
	for q.head.len() > 0 {
		switch {
		case s.diverting >= maxDiverting:
			s.wait(q)
			d.recount(q)
			return
		case d.noPlace():
			d.settleIn(q)
			return
		case d.capped(q.tenant):
			q.tenant.capped.push(q)
			return
		}
		d.divertRef(q, d.pop(q), now)
	}
	d.settleIn(q)
}

func (d *Dispatcher) divertRef(q *queue, r ref, now time.Time) {
	s, m := q.site, r.msg
	defer d.unuse(m)
	if d.park(q, r) {
		return
	}
	j := d.job()
	j.q, j.s, j.m, j.r, j.lane = q, s, m, r, q.key.Lane
	j.diverting, j.cause, j.since = true, s.cause(), s.window.Since()
	switch {
	case m.st == nil:
		d.fetch(j, now)
	case d.pick(j, now):
		d.start(j, now)
	}
}

// skip puts r by until the site of q opens.
func (d *Dispatcher) skip(q *queue, r ref) {
	if q.skipped.IsZero() || r.at.Before(q.skipped) {
		q.skipped = r.at
	}
	if q.spare.id.IsZero() {
		q.spare = ref{id: r.id, at: r.at, chunk: r.chunk}
	}
}

// reported takes a job back from its worker.
func (d *Dispatcher) reported(j *job, now time.Time) {
	switch j.kind {
	case jobAsk:
		d.asked(j, now)
	case jobRead:
		d.fetched(j, now)
	default:
		d.settled(j, now)
	}
}

func (d *Dispatcher) asked(j *job, now time.Time) {
	q := j.q
	q.asking = false
	if j.err == nil {
		d.adopt(j)
		d.assign(q, j.site, now)
	} else {
		if q.head.len() > 0 && q.head.at(0).same(j.r.id, j.r.chunk) {
			d.unuse(d.pop(q).msg)
		}
		d.unread(j, now)
	}
	d.end(j, now)
}

// adopt keeps a message that a worker has read, unless it is known already or
// was changed meanwhile.
func (d *Dispatcher) adopt(j *job) {
	if m := j.m; m.st == nil && j.st != nil && m.version == j.version {
		m.st, m.rcpts = j.st, j.st.Recipients
	}
}

// readAgain is the wait after a message could not be read.
const readAgain = 5 * time.Second

// unread handles a message that could not be read. One that is no longer there
// needs nothing; any other trouble is ours, loud, and may pass.
func (d *Dispatcher) unread(j *job, now time.Time) {
	if d.stopping || errors.Is(j.err, spool.ErrNotFound) {
		return
	}
	d.o.Log.Error("dispatch: a message cannot be read; trying again", "tenant", j.m.id.Tenant(), "message", j.m.id, "err", j.err)
	j.q.lower(j.r.at)
	d.noteFuture(j.q, now.Add(readAgain))
}

// fetched goes on with a job whose message was read.
func (d *Dispatcher) fetched(j *job, now time.Time) {
	m := j.m
	m.reading = false
	if j.err == nil && m.st == nil && m.version != j.version {
		j.st, j.version, m.reading = nil, m.version, true
		d.work <- j // read once more what an operation has changed meanwhile
		return
	}
	goes := false
	switch {
	case j.err != nil:
		d.unread(j, now)
	case d.stopping:
	case j.diverting && j.s.open:
		d.adopt(j)
		d.pushBack(j.q, j.r)
	default:
		d.adopt(j)
		goes = !d.park(j.q, j.r) && d.pick(j, now)
	}
	if goes {
		d.work <- j
	} else {
		d.end(j, now)
	}
	d.resume(m)
}

// settled takes in a job whose outcome is committed.
func (d *Dispatcher) settled(j *job, now time.Time) {
	m := j.m
	if errors.Is(j.err, kv.ErrTooBig) {
		d.stick(j, now)
		return
	}
	m.jobs--
	for _, i := range j.idx {
		m.busy.remove(i)
	}
	if j.err != nil {
		d.fail(j.err)
	}
	if j.s != nil && j.kind == jobTry {
		j.s.judge(j.verdict, now)
	}
	if j.verdict.failure != nil {
		j.q.last = j.verdict.failure
	}
	j.q.depth = max(0, j.q.depth-len(j.outcome.Changes))
	d.hurry(m) // before anything of the outcome can be tried again
	if j.err == nil && !d.stopping {
		d.left(j, now)
		d.apply(m, j.outcome.Changes, now)
	}
	d.end(j, now)
}

// stuckFor is how long a message rests whose outcome could not be stored: it is
// as if the attempt had not been made, and must not be made again and again.
const stuckFor = time.Hour

// stick puts a message by whose outcome is too large to store, and has a worker
// read what of it was. One message must not end the delivery of all others.
func (d *Dispatcher) stick(j *job, now time.Time) {
	d.o.Log.Error("dispatch: the outcome of an attempt is too large to store; the message rests, and may be sent twice", "tenant", j.m.id.Tenant(), "message", j.m.id, "rests", stuckFor.String(), "err", j.err)
	d.stuck[j.m.id] = now.Add(stuckFor)
	j.large, j.err = true, nil
	d.work <- j
}

// left sees to recipients of j that nothing was done about.
func (d *Dispatcher) left(j *job, now time.Time) {
	if len(j.outcome.Changes) == len(j.idx) {
		return
	}
	if j.large { // nothing is known of it: it is read again
		j.q.lower(j.r.at)
		d.noteFuture(j.q, now.Add(stuckFor))
		return
	}
	if j.kind == jobDivert {
		d.skip(j.q, j.r)
	}
	for _, i := range j.idx[min(j.tried, len(j.idx)):] {
		d.enter(j.q, ref{id: j.m.id, at: j.rcpts[0].Next, chunk: i / chunkSize, msg: j.m}, now)
	}
}

// apply takes committed changes of recipients into the schedule.
func (d *Dispatcher) apply(m *message, changes []spool.Change, now time.Time) {
	keep := m.uses > 1
	for i := range changes {
		keep = keep || changes[i].Recipient.State == mail.Queued && !changes[i].Recipient.Next.After(now)
	}
	for i := range changes {
		c := &changes[i]
		if keep {
			m.set(c.Index, c.Recipient)
		}
		if c.Recipient.State != mail.Queued {
			continue
		}
		q := d.queueFor(spool.Queue{Lane: c.Recipient.Lane, Tenant: m.id.Tenant()}, c.Recipient.Next)
		q.depth++
		d.enter(q, ref{id: m.id, at: c.Recipient.Next, chunk: c.Index / chunkSize, msg: m}, now)
	}
}
