package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"behalf/internal/blob"
	blobmem "behalf/internal/blob/mem"
	"behalf/internal/kv"
	kvmem "behalf/internal/kv/mem"
	"behalf/mail"
	"behalf/spool"
	"behalf/upstream"
)

// world is a dispatcher over a real spool in memory, with ways out that a test
// scripts.
type world struct {
	t  testing.TB
	kv kv.Store
	bl *blobmem.Store
	sp *spool.Spool
	d  *Dispatcher
	o  Options

	cancel context.CancelFunc
	ended  chan error

	mu       sync.Mutex
	ways     map[mail.UpstreamID]way
	sites    map[string]string // domain to MX site
	planErr  func(m *mail.Message, wish int) error
	listed   map[string]string // suppressed addresses, with the reason
	listErr  error
	asked    int // times that the list was asked
	tries    []try
	trying   map[who]bool
	most     map[string]int // by upstream: most jobs at once
	busy     map[string]int
	maxRcpts int
}

// way says what becomes of one recipient; it may sleep.
type way func(ctx context.Context, j *upstream.Job, to upstream.Target) upstream.Result

type who struct {
	id mail.ID
	i  int
}

// try is one attempt at one recipient that reached a way out.
type try struct {
	at     time.Time
	up     mail.UpstreamID
	tenant mail.TenantID
	who    who
	to     string
	ok     bool
}

func newWorld(t testing.TB, o Options) *world {
	w := &world{t: t, kv: kvmem.New(kvmem.Options{}), bl: blobmem.New(), o: o, ways: map[mail.UpstreamID]way{},
		sites: map[string]string{}, trying: map[who]bool{}, most: map[string]int{}, busy: map[string]int{}}
	if os.Getenv("DISPATCH_LOG") != "" {
		w.o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	w.open()
	return w
}

func (w *world) open() {
	sp, err := spool.Open(context.Background(), w.kv, w.bl, spool.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sp = sp
	w.d = New(sp, (*planner)(w), w.o)
}

// run starts the dispatcher; the test ends with stop.
func (w *world) run() {
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel, w.ended = cancel, make(chan error, 1)
	go func() { w.ended <- w.d.Run(ctx) }()
}

// stop ends Run and everything else, and checks what must hold at any end.
func (w *world) stop() {
	w.t.Helper()
	w.halt()
	w.kv.Close()
	w.bl.Close()
}

func (w *world) halt() {
	w.t.Helper()
	w.cancel()
	if err := <-w.ended; err != nil {
		w.t.Errorf("Run: %v", err)
	}
	if n := w.d.memory.Load(); n != 0 {
		w.t.Errorf("%d octets of messages are still held after Run", n)
	}
}

// restart ends the dispatcher and opens another over the same spool.
func (w *world) restart() {
	w.t.Helper()
	w.halt()
	w.open()
	w.run()
}

// put accepts a message of a tenant that may go by the given ways.
func (w *world) put(tenant mail.TenantID, ways []mail.UpstreamID, to ...string) *spool.Stored {
	w.t.Helper()
	return w.putAs(tenant, ways, to, nil)
}

func (w *world) putAs(tenant mail.TenantID, ways []mail.UpstreamID, to []string, as func(*mail.Message, []mail.Recipient)) *spool.Stored {
	w.t.Helper()
	now := time.Now()
	m := &mail.Message{ID: w.sp.NewID(tenant, now), Tenant: tenant, Stream: mail.StreamTransactional, Accepted: now, Expires: now.Add(96 * time.Hour)}
	for _, u := range ways {
		m.Wishes = append(m.Wishes, mail.Wish{Upstream: u})
	}
	var rs []mail.Recipient
	for _, a := range to {
		addr, err := mail.ParseAddress(a)
		if err != nil {
			w.t.Fatal(err)
		}
		rs = append(rs, mail.Recipient{Address: addr})
	}
	if as != nil {
		as(m, rs)
	}
	d := w.sp.Draft()
	d.Write([]byte("Subject: hello\r\n\r\nbody\r\n"))
	st, err := w.sp.Put(context.Background(), d, m, rs, nil, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

// send is put and Offer.
func (w *world) send(tenant mail.TenantID, ways []mail.UpstreamID, to ...string) mail.ID {
	w.t.Helper()
	st := w.put(tenant, ways, to...)
	id := st.Message.ID
	w.d.Offer(st)
	return id
}

func (w *world) way(u mail.UpstreamID, f way) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ways[u] = f
}

// offer hands st to the dispatcher of the moment.
func (w *world) offer(st *spool.Stored) {
	w.mu.Lock()
	d := w.d
	w.mu.Unlock()
	d.Offer(st)
}

// rcpt is a recipient as it is stored now.
func (w *world) rcpt(id mail.ID, i int) mail.Recipient {
	w.t.Helper()
	st, err := w.sp.Load(context.Background(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return st.Recipients[i]
}

func (w *world) state(id mail.ID, i int) mail.State { w.t.Helper(); return w.rcpt(id, i).State }

func (w *world) want(id mail.ID, i int, s mail.State) {
	w.t.Helper()
	if r := w.rcpt(id, i); r.State != s {
		w.t.Errorf("recipient %d is %s, want %s; %+v", i, r.State, s, r)
	}
}

// events are the types of a message's events, in order, without the first.
func (w *world) events(id mail.ID) []mail.Event {
	w.t.Helper()
	es, err := w.sp.Timeline(context.Background(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return es[1:]
}

func (w *world) eventTypes(id mail.ID) (types []mail.EventType) {
	for _, e := range w.events(id) {
		types = append(types, e.Type)
	}
	return types
}

func (w *world) wantEvents(id mail.ID, types ...mail.EventType) {
	w.t.Helper()
	if got := w.eventTypes(id); !slices.Equal(got, types) {
		w.t.Errorf("events are %v, want %v", got, types)
	}
}

// atOnce is how many jobs a way out had at once, at most.
func (w *world) atOnce(u mail.UpstreamID) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.most[string(u)]
}

// triedBy lists the attempts that reached a way out, or any if u is empty.
func (w *world) triedBy(u mail.UpstreamID) (out []try) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.tries {
		if u == "" || t.up == u {
			out = append(out, t)
		}
	}
	return out
}

// planner is the world as a Planner.
type planner world

func (p *planner) Plan(_ context.Context, m *mail.Message, wish int) (*mail.Hop, upstream.Upstream, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.planErr != nil {
		if err := p.planErr(m, wish); err != nil {
			return nil, nil, err
		}
	}
	u := m.Wishes[wish].Upstream
	return &mail.Hop{Upstream: u, Method: mail.MethodDomain}, (*out)(p), nil
}

func (p *planner) Sender(*mail.Message, *mail.Hop, int) mail.Address {
	return mail.Address{Local: "bounce", Domain: "acme.example"}
}

func (p *planner) Render(_ *spool.Stored, _ *mail.Hop, _ int, body func(context.Context) (blob.Body, error)) func(context.Context, upstream.Caps) (upstream.Rendered, error) {
	return func(ctx context.Context, _ upstream.Caps) (upstream.Rendered, error) {
		b, err := body(ctx)
		if err != nil {
			return nil, err
		}
		return nil, b.Close()
	}
}

func (p *planner) Site(_ context.Context, _ *mail.Message, lane mail.Lane) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, domain, _ := lane.Parts()
	if s := p.sites[domain]; s != "" {
		return "mx:" + s, nil
	}
	return "mx:" + domain, nil
}

func (p *planner) Suppressed(_ context.Context, _ *mail.Message, r *mail.Recipient) (string, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	reason, yes := p.listed[r.Address.Key()]
	return reason, yes, p.listErr
}

// out is the world as all the ways out.
type out world

func (p *out) Traits() upstream.Traits { return upstream.Traits{MaxRecipients: p.maxRcpts} }

func (p *out) Deliver(ctx context.Context, j *upstream.Job) []upstream.Result {
	w := (*world)(p)
	u := j.Hop.Upstream
	w.enter(j)
	w.mu.Lock()
	f := w.ways[u]
	w.mu.Unlock()
	var panicked any
	rs := make([]upstream.Result, 0, len(j.To))
	func() {
		defer func() {
			if panicked = recover(); panicked != nil {
				rs = nil
			}
		}()
		if f == nil {
			f = fine
		}
		if _, err := j.Render(ctx, upstream.Caps{}); err != nil {
			rs = append(rs, upstream.FailAll(j, time.Now(), mail.AsFailure(err))...)
			return
		}
		for _, to := range j.To {
			start := time.Now()
			r := f(ctx, j, to)
			r.Start, r.Took = start, time.Since(start)
			rs = append(rs, r)
		}
	}()
	w.leave(j, rs)
	if panicked != nil {
		panic(panicked)
	}
	return rs
}

func (w *world) enter(j *upstream.Job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := string(j.Hop.Upstream)
	w.busy[k]++
	w.most[k] = max(w.most[k], w.busy[k])
	for _, to := range j.To {
		k := who{j.Message.ID, to.Index}
		if w.trying[k] {
			w.t.Errorf("recipient %d of %s is tried twice at once", to.Index, j.Message.ID)
		}
		w.trying[k] = true
	}
}

func (w *world) leave(j *upstream.Job, rs []upstream.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy[string(j.Hop.Upstream)]--
	for i, to := range j.To {
		k := who{j.Message.ID, to.Index}
		delete(w.trying, k)
		w.tries = append(w.tries, try{time.Now(), j.Hop.Upstream, j.Message.Tenant, k, to.To.String(), i < len(rs) && rs[i].Failure == nil})
	}
}

// Ways out.

func fine(context.Context, *upstream.Job, upstream.Target) upstream.Result {
	return upstream.Result{Host: "mx.example", Reply: "250 2.0.0 ok"}
}

func takes(d time.Duration) way {
	return func(ctx context.Context, j *upstream.Job, to upstream.Target) upstream.Result {
		select {
		case <-time.After(d):
			return fine(ctx, j, to)
		case <-ctx.Done():
			return upstream.Result{Failure: mail.AsFailure(ctx.Err())}
		}
	}
}

func fails(f func() *mail.Failure) way {
	return func(context.Context, *upstream.Job, upstream.Target) upstream.Result {
		return upstream.Result{Failure: f()}
	}
}

func unreach() *mail.Failure {
	f := mail.Fail(451, mail.Enhanced{4, 4, 1}, mail.OfDestination, mail.ReasonUnreachable, "connection refused")
	f.Stage = mail.StageConnect
	return f
}

func greylisted() *mail.Failure {
	f := mail.Fail(451, mail.Enhanced{4, 7, 1}, mail.OfDestination, mail.ReasonRate, "greylisted")
	f.Stage = mail.StageSession
	return f
}

func noMailbox() *mail.Failure {
	f := mail.Fail(550, mail.Enhanced{5, 1, 1}, mail.OfRecipient, mail.ReasonNoMailbox, "no such user")
	f.Stage = mail.StageSession
	return f
}

func mailboxFull() *mail.Failure {
	f := mail.Fail(452, mail.Enhanced{4, 2, 2}, mail.OfRecipient, mail.ReasonMailboxFull, "over quota")
	f.Stage = mail.StageSession
	return f
}

func noAuth() *mail.Failure {
	f := mail.Fail(535, mail.Enhanced{5, 7, 8}, mail.OfRoute, mail.ReasonAuth, "credential refused")
	f.Stage = mail.StageSession
	return f
}

func unresolved() *mail.Failure {
	f := mail.Fail(451, mail.Enhanced{4, 4, 2}, mail.OfDestination, mail.ReasonUnresolved, "no answer to the final dot")
	f.Stage = mail.StageFinal
	return f
}

func addresses(n int, domain string) []string {
	as := make([]string, n)
	for i := range as {
		as[i] = fmt.Sprintf("u%d@%s", i, domain)
	}
	return as
}

// The ways that messages of the tests go.
const (
	office   = mail.UpstreamID("connection:office")
	mx       = mail.UpstreamMX
	platform = mail.UpstreamPlatform
)

func ups(us ...mail.UpstreamID) []mail.UpstreamID { return us }

// scenario runs a test in a bubble with its own clock. Goroutines that outlive
// it fail the test.
func scenario(t *testing.T, o Options, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, o)
		w.run()
		f(w)
		w.stop()
	})
}

type (
	job1   = upstream.Job
	target = upstream.Target
	result = upstream.Result
)
