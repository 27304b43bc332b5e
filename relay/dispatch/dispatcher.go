package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"behalf/mail"
	"behalf/spool"
)

// ErrStopped is returned by operations once Run has ended.
var ErrStopped = errors.New("dispatch: stopped")

// Options are the bounds of a Dispatcher; the zero value works.
type Options struct {
	Schedule mail.Schedule         // default mail.DefaultSchedule
	Log      *slog.Logger          // default: none
	Metrics  prometheus.Registerer // default: none

	Workers   int   // attempts at once, but for those that wait for a peer; default 512
	Waiting   int   // attempts that have waited for a peer for a second, besides; default 4 a worker
	PerTenant int   // of them for one tenant; default half
	Heads     int   // references in memory, all queues together; default 64 Ki
	Young     int64 // octets of memory that messages keep up to their first attempt; default 32 MiB

	WindowMX    int // jobs at once at an MX site to begin with; default 5
	WindowOther int // likewise at a connection or smart host; default 20
	WindowMax   int // most at once at any site; default 100

	AttemptTimeout time.Duration // of one attempt; default 10 minutes
	StopGrace      time.Duration // for attempts under way when Run is told to stop; default 30 s

	// Released is told which recipients were held and are released, by a person or
	// by the clock. It must not wait for the dispatcher.
	Released func(ctx context.Context, who map[mail.TenantID][]mail.Address)
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (o Options) withDefaults() Options {
	if o.Schedule.Retry == nil && o.Schedule.RetryConnect == nil && o.Schedule.FailoverAfter == 0 {
		o.Schedule = mail.DefaultSchedule()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	orDefault(&o.Workers, 512)
	orDefault(&o.Waiting, 4*o.Workers)
	orDefault(&o.PerTenant, max(1, o.Workers/2))
	orDefault(&o.Heads, 64<<10)
	orDefault(&o.Young, 32<<20)
	orDefault(&o.WindowMX, 5)
	orDefault(&o.WindowOther, 20)
	orDefault(&o.WindowMax, 100)
	orDefault(&o.AttemptTimeout, 10*time.Minute)
	orDefault(&o.StopGrace, 30*time.Second)
	return o
}

// Attempts is how many may be under way at once, those that wait included. What
// they share, as sessions and descriptors, must be enough for as many: if they
// wait for it, those whose peers hang keep it from the others.
func (o Options) Attempts() int {
	o = o.withDefaults()
	return o.Workers + o.Waiting
}

// Dispatcher delivers what the spool holds. Its methods may be called from many
// goroutines.
type Dispatcher struct {
	o       Options
	sp      store
	planner Planner
	metrics metrics
	made    time.Time // whatever is accepted from then on is offered

	offers  chan *spool.Stored
	full    overflow
	resumes chan string  // keys of sites
	memory  atomic.Int64 // octets of offered messages in memory
	backlog atomic.Int64 // ready jobs in open lanes

	calls   chan func(now time.Time) // run by the owner
	reports chan *job                // from workers; never full
	work    chan *job                // to workers; never full
	loads   chan loadRequest
	loaded  chan loadResult
	chores  chan *pendingOp
	oneOp   chan struct{} // held by the operation under way
	stopped chan struct{} // closed when Run has ended

	owner // touched by the owner goroutine only
}

// owner is the schedule.
type owner struct {
	queues  map[spool.Queue]*queue
	sites   map[string]*site
	tenants map[mail.TenantID]*tenant
	msgs    map[mail.ID]*message
	ring    turns // queues that may have a job
	alarms  alarms
	wanting []*queue // queues to be read on, in order
	todo    []*pendingOp
	spare   []*job
	touched map[mail.ID]time.Time // young messages that an operation changed
	stuck   map[mail.ID]time.Time // messages that rest until then

	refs     int // in all heads
	ready    int // jobs ready at open sites
	unsited  int // likewise where the site is not known yet
	openings int // of closed sites, so far
	busy     int // jobs under way
	waiting  int // of them, those that do not count as workers
	started  jobLine
	workers  int // goroutines
	stopping bool
	failed   error
	tidied   time.Time
}

// New makes a Dispatcher. It starts nothing.
func New(sp store, planner Planner, o Options) *Dispatcher {
	o = o.withDefaults()
	return &Dispatcher{
		o: o, sp: sp, planner: planner, metrics: newMetrics(o.Metrics), made: time.Now(),
		offers:  make(chan *spool.Stored, 1024),
		full:    overflow{signal: make(chan struct{}, 1)},
		resumes: make(chan string, 64),
		calls:   make(chan func(time.Time)),
		reports: make(chan *job, o.Workers+o.Waiting),
		work:    make(chan *job, 2*(o.Workers+o.Waiting)), // and as many words to end
		loads:   make(chan loadRequest),
		loaded:  make(chan loadResult),
		chores:  make(chan *pendingOp),
		oneOp:   make(chan struct{}, 1),
		stopped: make(chan struct{}),
		owner: owner{
			ring: turns{accounts: true}, queues: map[spool.Queue]*queue{}, sites: map[string]*site{}, tenants: map[mail.TenantID]*tenant{},
			msgs: map[mail.ID]*message{}, touched: map[mail.ID]time.Time{}, stuck: map[mail.ID]time.Time{},
		},
	}
}

// Run delivers until ctx ends; then attempts under way get StopGrace. It
// returns when all its goroutines have ended: nil after a stop, or the error of
// a settle that failed, after which the process must end and recover. It is
// called once.
func (d *Dispatcher) Run(ctx context.Context) error {
	help, endHelp := context.WithCancel(ctx)
	defer endHelp()
	attempts, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()

	var helpers, workers sync.WaitGroup
	helpers.Go(func() { d.scan(help) })
	helpers.Go(func() { d.load(help) })
	helpers.Go(func() { d.sweep(help) })
	helpers.Go(func() { d.doChores(help) })
	ended := make(chan struct{})

	d.own(ctx, ownership{
		spawn: func() { workers.Go(func() { d.worker(attempts) }) },
		stop: func() {
			endHelp()
			go func() { helpers.Wait(); close(ended) }()
		},
		helpersEnded: ended,
		cancel:       cancel,
	})
	close(d.work)
	workers.Wait()
	close(d.stopped)
	d.forgetAll()
	return d.failed
}

// ownership is what the owner goroutine may do to the others.
type ownership struct {
	spawn        func()
	stop         func() // tells the helpers to end
	helpersEnded <-chan struct{}
	cancel       func() // ends the attempts under way
}

// own is the owner's loop.
func (d *Dispatcher) own(ctx context.Context, o ownership) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	done := ctx.Done()
	var grace <-chan time.Time
	helpers := o.helpersEnded
	for {
		if d.failed != nil {
			o.cancel()
		}
		if d.stopping && d.busy == 0 && helpers == nil {
			return
		}
		timer.Reset(d.nextAlarm())
		loads, request := d.nextLoad()
		chores, chore := d.nextChore()
		select {
		case st := <-d.offers:
			d.offered(st, time.Now())
		case j := <-d.reports:
			d.reported(j, time.Now())
		case loads <- request:
			d.wanting = d.wanting[1:]
		case r := <-d.loaded:
			d.read(r, time.Now())
		case <-d.full.signal:
			d.overflowed(time.Now())
		case key := <-d.resumes:
			d.resumed(key, time.Now())
		case call := <-d.calls:
			call(time.Now())
		case chores <- chore:
			d.todo = d.todo[1:]
		case <-timer.C:
		case <-done:
			done = nil
			d.stop(o)
			grace = time.After(d.o.StopGrace)
		case <-grace:
			o.cancel()
		case <-helpers:
			helpers = nil
		}
		d.drain()
		if d.failed != nil && !d.stopping {
			d.stop(o)
		}
		d.turn(time.Now(), o.spawn)
	}
}

func (d *Dispatcher) stop(o ownership) {
	d.stopping = true
	o.stop()
}

// drain takes what else has come in, up to a bound.
func (d *Dispatcher) drain() {
	now := time.Now()
	for range 128 {
		select {
		case j := <-d.reports:
			d.reported(j, now)
			continue
		default:
		}
		select {
		case st := <-d.offers:
			d.offered(st, now)
		default:
			return
		}
	}
}

// turn lets alarms ring and jobs start.
func (d *Dispatcher) turn(now time.Time, spawn func()) {
	if d.stopping {
		d.backlog.Store(0)
		return
	}
	for a := d.alarms.due(now); a != nil; a = d.alarms.due(now) {
		if a.queue != nil {
			d.woken(a.queue, now)
		} else {
			d.look(a.site, now)
		}
	}
	d.lookAfterWaiting(now)
	d.schedule(now)
	d.staff(spawn)
	if now.Sub(d.tidied) > time.Minute {
		d.tidy(now)
	}
	d.backlog.Store(int64(d.openReady()))
	d.metrics.inFlight.Set(float64(d.busy))
	d.metrics.waiting.Set(float64(d.waiting))
}

func (d *Dispatcher) nextAlarm() time.Duration {
	if d.stopping {
		return time.Minute
	}
	at := time.Now().Add(time.Minute)
	if len(d.alarms) > 0 {
		at = d.alarms[0].at
	}
	if d.started.first != nil {
		if check := d.nextCheck(); check.Before(at) {
			at = check
		}
	}
	return max(0, time.Until(at))
}

// fail ends everything: what a settle wrote is not known.
func (d *Dispatcher) fail(err error) {
	if d.failed == nil {
		d.failed = err
		d.o.Log.Error("dispatch: an outcome could not be stored; the process must restart", "err", err)
	}
}

// Offer hands over a message right after it was accepted. It never blocks: when
// there is no room the message is found again in the due index. The Stored is
// the dispatcher's from then on.
func (d *Dispatcher) Offer(st *spool.Stored) {
	cost := costOf(st)
	if d.memory.Add(cost) <= d.o.Young {
		select {
		case d.offers <- st:
			return
		default:
		}
	}
	d.memory.Add(-cost)
	d.full.add(st)
	st.Release()
}

func costOf(st *spool.Stored) int64 {
	return st.Held() + int64(len(st.Message.Front)) + 1024 + 256*int64(len(st.Recipients))
}

// Ready is how many jobs are ready in lanes that are open: what delivery is
// behind with. Backlogs of dead, suspended or paced lanes do not count.
func (d *Dispatcher) Ready() int { return int(d.backlog.Load()) + len(d.offers) }

// The bounds of Backpressure.
const (
	pressureFrom = 256
	pressureMost = 50 * time.Millisecond
)

// Backpressure slows the caller down, up to 50 ms, while delivery is behind:
// doors call it before their final reply.
func (d *Dispatcher) Backpressure(ctx context.Context) {
	over := d.Ready() - pressureFrom
	if over <= 0 {
		return
	}
	wait := min(pressureMost, time.Duration(over)*pressureMost/(4*pressureFrom))
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-d.stopped:
	}
}

// overflow keeps note of queues that were offered more than there was room for.
type overflow struct {
	mu     sync.Mutex
	queues map[spool.Queue]noted
	signal chan struct{}
}

type noted struct {
	at    time.Time // the first entry
	count int
}

func (o *overflow) add(st *spool.Stored) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range st.Recipients {
		r := &st.Recipients[i]
		if r.State != mail.Queued {
			continue
		}
		if o.queues == nil {
			o.queues = map[spool.Queue]noted{}
		}
		k := spool.Queue{Lane: r.Lane, Tenant: st.Message.Tenant}
		n, ok := o.queues[k]
		if !ok || r.Next.Before(n.at) {
			n.at = r.Next
		}
		n.count++
		o.queues[k] = n
	}
	select {
	case o.signal <- struct{}{}:
	default:
	}
}

func (o *overflow) take() map[spool.Queue]noted {
	o.mu.Lock()
	defer o.mu.Unlock()
	qs := o.queues
	o.queues = nil
	return qs
}

// call runs fn on the owner goroutine and waits for it.
func (d *Dispatcher) call(ctx context.Context, fn func(now time.Time)) error {
	done := make(chan struct{})
	select {
	case d.calls <- func(now time.Time) { fn(now); close(done) }:
	case <-ctx.Done():
		return fmt.Errorf("dispatch: %w", context.Cause(ctx))
	case <-d.stopped:
		return ErrStopped
	}
	<-done
	return nil
}

// forgetAll gives back what is in memory once Run has ended.
func (d *Dispatcher) forgetAll() {
	for _, m := range d.msgs {
		d.drop(m)
	}
	for {
		select {
		case st := <-d.offers:
			d.memory.Add(-costOf(st))
			st.Release()
		default:
			return
		}
	}
}
