package dispatch

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"behalf/internal/blob"
	"behalf/mail"
	"behalf/spool"
	"behalf/upstream"
)

// jobKind is what a worker shall do.
type jobKind uint8

const (
	jobAsk    jobKind = iota // find out the site of a queue
	jobRead                  // load a message, for the attempt that follows
	jobTry                   // make an attempt and settle it
	jobDivert                // send recipients on to their next wish without a try
)

// job is one piece of work of a worker. The owner fills it, a worker has it for
// itself until it is back on the owner's channel, and then it is used again.
type job struct {
	kind    jobKind
	q       *queue
	s       *site // whose slot it has; nil if none
	m       *message
	r       ref
	version int // of m when it was begun

	place                 // among the jobs under way
	atPeer    atomic.Bool // its worker waits for somebody else to answer
	slot      bool        // counts in its site's window
	diverting bool        // counts in its site's divertings

	lane  mail.Lane
	st    *spool.Stored
	idx   []int            // recipients, and as they are
	rcpts []mail.Recipient // before it
	cause *mail.Failure    // of a diversion
	since time.Time        // likewise: no session since

	site    string // answer to jobAsk
	err     error
	large   bool // the outcome was too large to store; what is stored is to be read
	ended   int  // how many of idx, the first ones, are suppressed by now
	tried   int  // up to which of idx they were tried; the others were too many
	outcome spool.Outcome
	verdict verdict

	one struct { // room for a job of one recipient, which most are
		idx     [1]int
		rcpts   [1]mail.Recipient
		changes [1]spool.Change
		told    told
	}
	settled func(error) // of this job: what the spool calls when it is committed
}

// worker does jobs until the owner has no more.
func (d *Dispatcher) worker(ctx context.Context) {
	h := hand{d: d}
	h.open = h.openBody
	defer h.end()
	for j := range d.work {
		if j == nil {
			return // there are more workers than jobs
		}
		if j.large {
			j.outcome.Changes = d.stored(ctx, j.m.id, j.outcome.Changes)
			d.reports <- j
			continue
		}
		switch j.kind {
		case jobAsk:
			d.doAsk(ctx, j)
			d.reports <- j
		case jobRead:
			j.st, j.err = d.sp.Load(ctx, j.m.id)
			d.reports <- j
		case jobTry:
			d.try(ctx, &h, j)
			d.settle(j)
		case jobDivert:
			d.doDivert(j)
			d.settle(j)
		}
	}
}

// doAsk loads the message if need be and asks for the site of its lane. Without
// an answer the lane is a site of its own: the attempt will tell what is wrong.
func (d *Dispatcher) doAsk(ctx context.Context, j *job) {
	if j.st == nil {
		if j.st, j.err = d.sp.Load(ctx, j.m.id); j.err != nil {
			return
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	j.atPeer.Store(true)
	site, err := d.siteOf(ctx, j.st.Message, j.lane)
	j.atPeer.Store(false)
	if err != nil || site == "" {
		u, domain, _ := j.lane.Parts()
		site = string(u) + ":" + domain
	}
	j.site = site
}

func (d *Dispatcher) siteOf(ctx context.Context, m *mail.Message, lane mail.Lane) (site string, err error) {
	defer d.caught(m, "site", &err)
	return d.planner.Site(ctx, m, lane)
}

// caught turns a panic into an error.
func (d *Dispatcher) caught(m *mail.Message, where string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic in %s: %v", where, p)
		d.o.Log.Error("dispatch: panic", "where", where, "tenant", m.Tenant, "message", m.ID, "panic", p, "stack", string(debug.Stack()))
	}
}

// try makes the attempt and puts what became of it into j.
func (d *Dispatcher) try(base context.Context, h *hand, j *job) {
	start := time.Now()
	ctx := h.of(base, start, d.o.AttemptTimeout)
	m := j.st.Message
	wish := j.rcpts[0].Wish
	j.tried = len(j.idx)
	err := d.suppress(ctx, j, start)
	if j.ended == len(j.idx) {
		return
	}
	var hop *mail.Hop
	var up upstream.Upstream
	if err == nil {
		hop, up, err = d.plan(ctx, m, wish)
	}
	if err == nil {
		if n := up.Traits().MaxRecipients; n > 0 {
			j.tried = min(j.tried, j.ended+n)
		}
		if hop.Single {
			j.tried = j.ended + 1
		}
		err = d.upstreamJob(h, j, hop)
		defer h.close()
	}
	if err != nil {
		f := mail.AsFailure(err)
		for i := j.ended; i < j.tried; i++ {
			d.conclude(base, j, i, &mail.Attempt{At: start, Took: time.Since(start), Wish: wish, Failure: f})
		}
		return
	}
	// A wait for a session counts too. There are enough in all, so it is for one of
	// the same peer: workers that stood in line there would be lost to all others.
	j.atPeer.Store(true)
	results := d.deliver(ctx, up, &h.job)
	j.atPeer.Store(false)
	for i := range h.job.To {
		a := attemptOf(&results[i], start, wish, hop, h.job.To[i].From)
		d.conclude(base, j, j.ended+i, &a)
	}
}

func (d *Dispatcher) plan(ctx context.Context, m *mail.Message, wish int) (hop *mail.Hop, up upstream.Upstream, err error) {
	defer d.caught(m, "plan", &err)
	if wish >= len(m.Wishes) {
		return nil, nil, fmt.Errorf("message %s has no way number %d", m.ID, wish)
	}
	hop, up, err = d.planner.Plan(ctx, m, wish)
	if err == nil && (hop == nil || up == nil) {
		err = errors.New("the planner gave neither a hop nor an error")
	}
	return hop, up, err
}

// hand is what a worker uses for one attempt after the other.
type hand struct {
	term
	d      *Dispatcher
	st     *spool.Stored
	job    upstream.Job // for the upstream, which has it until the attempt is over
	one    [1]upstream.Target
	open   func(context.Context) (blob.Body, error)
	bodies []blob.Body // that were opened for it
}

// openBody opens the stored bytes of the message.
func (h *hand) openBody(ctx context.Context) (blob.Body, error) {
	b, err := h.d.openBody(ctx, h.st)
	if err == nil {
		h.bodies = append(h.bodies, b)
	}
	return b, err
}

// close closes the bodies and forgets the job: the attempt is over.
func (h *hand) close() {
	for _, b := range h.bodies {
		_ = b.Close() // read only
	}
	clear(h.bodies)
	h.bodies = h.bodies[:0]
	h.st, h.job, h.one = nil, upstream.Job{}, [1]upstream.Target{}
}

func (d *Dispatcher) upstreamJob(h *hand, j *job, hop *mail.Hop) (err error) {
	m, uj := j.st.Message, &h.job
	defer d.caught(m, "render", &err)
	h.st = j.st
	uj.Message, uj.Hop, uj.To = m, hop, h.one[:]
	if n := j.tried - j.ended; n != 1 {
		uj.To = make([]upstream.Target, n)
	}
	_, uj.Domain, _ = j.lane.Parts()
	for i := range uj.To {
		r, index := &j.rcpts[j.ended+i], j.idx[j.ended+i]
		uj.To[i] = upstream.Target{Index: index, To: r.Address, From: d.planner.Sender(m, hop, index), ORcpt: r.ORcpt, Notify: r.Notify}
	}
	uj.Render = d.planner.Render(j.st, hop, uj.To[0].Index, h.open)
	return nil
}

// deliver calls the upstream. If it panics or answers short, nobody knows what
// was sent: that counts as a final dot without an answer, of ours.
func (d *Dispatcher) deliver(ctx context.Context, up upstream.Upstream, uj *upstream.Job) (rs []upstream.Result) {
	start := time.Now()
	var err error
	func() {
		defer d.caught(uj.Message, "deliver", &err)
		rs = up.Deliver(ctx, uj)
	}()
	if err == nil && len(rs) == len(uj.To) {
		return rs
	}
	if err == nil {
		err = fmt.Errorf("%d results for %d recipients", len(rs), len(uj.To))
		d.o.Log.Error("dispatch: upstream answered short", "tenant", uj.Message.Tenant, "message", uj.Message.ID, "upstream", uj.Hop.Upstream, "err", err)
	}
	f := mail.AsFailure(fmt.Errorf("upstream %s: %w", uj.Hop.Upstream, err))
	f.Stage = mail.StageFinal
	return upstream.FailAll(uj, start, f)
}

func attemptOf(r *upstream.Result, start time.Time, wish int, hop *mail.Hop, from mail.Address) mail.Attempt {
	a := mail.Attempt{At: r.Start, Took: r.Took, Wish: wish, Upstream: hop.Upstream, Method: hop.Method, Host: r.Host,
		Addr: r.Addr, TLS: r.TLS, Reply: r.Reply, From: from.String(), Signed: r.Signed, Failure: r.Failure}
	if a.At.IsZero() {
		a.At, a.Took = start, time.Since(start)
	}
	return a
}

// openBody opens the stored bytes: those in memory while they are there.
func (d *Dispatcher) openBody(ctx context.Context, st *spool.Stored) (blob.Body, error) {
	b, err := d.sp.OpenBody(ctx, st)
	if err == nil {
		return b, nil
	}
	if ctx.Err() == nil {
		d.o.Log.Error("dispatch: the stored body cannot be read", "tenant", st.Message.Tenant, "message", st.Message.ID, "err", err)
	}
	return nil, &mail.Failure{Code: 451, Enhanced: mail.Enhanced{4, 3, 0}, Scope: mail.OfUs, Reason: mail.ReasonInternal,
		Text: "the stored message cannot be read; it is tried again", Err: fmt.Errorf("open body: %w", err)}
}
