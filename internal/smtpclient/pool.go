package smtpclient

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Limits bound the sessions of a [Pool]. Zero means default.
type Limits struct {
	PerKey   int           // sessions to one place; 20
	Total    int           // sessions in all; 500
	Kept     int           // of them, open without use; 500
	Messages int           // transactions of one session; 500
	Idle     time.Duration // kept open without use; 30 s
}

func (l Limits) or() Limits {
	set := func(n *int, v int) {
		if *n <= 0 {
			*n = v
		}
	}
	set(&l.PerKey, 20)
	set(&l.Total, 500)
	set(&l.Kept, 500)
	set(&l.Messages, 500)
	if l.Idle <= 0 {
		l.Idle = 30 * time.Second
	}
	return l
}

// ErrClosed is returned by a pool that was closed.
var ErrClosed = errors.New("the pool of sessions is closed")

// Pool keeps sessions open between transactions, by key (a host and port). Its
// memory is bounded by the limits, not by the keys it has seen.
type Pool struct {
	limits Limits

	mu      sync.Mutex
	places  map[string]*place
	open    int       // sessions, and leases about to dial
	idle    int       // of them, idle
	waiting []*waiter // in order of arrival
	spare   []*waiter // to be used again
	sweep   *time.Timer
	closed  bool
	wg      sync.WaitGroup // sweeps that run
}

// place is one key's sessions.
type place struct {
	open int
	idle []*Client // least recently used first
}

type waiter struct {
	key   string
	grant chan *Lease // of one
	timer *time.Timer // stopped unless somebody waits
}

// maxSpare is how many waiters are kept to be used again.
const maxSpare = 64

// NewPool makes an empty pool. Close ends it.
func NewPool(l Limits) *Pool {
	return &Pool{limits: l.or(), places: map[string]*place{}}
}

// Lease is the right to one session. Its holder dials when Client is nil, and
// releases it in the end.
type Lease struct {
	// Client is the session; nil until somebody dials.
	Client *Client
	pool   *Pool
	key    string
}

// TryLease is Lease where that need not wait; else it gives nil.
func (p *Pool) TryLease(key string) *Lease {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	return p.grant(key)
}

// Lease waits for a place among the sessions of key: an idle session, or the
// right to dial one. It ends with ctx.
func (p *Pool) Lease(ctx context.Context, key string) (*Lease, error) {
	return p.LeaseUntil(ctx, key, time.Time{})
}

// LeaseUntil is Lease that gives up at a time with context.DeadlineExceeded;
// the zero time is never.
func (p *Pool) LeaseUntil(ctx context.Context, key string, until time.Time) (*Lease, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	if l := p.grant(key); l != nil {
		p.mu.Unlock()
		return l, nil
	}
	w := p.queue(key)
	p.mu.Unlock()
	if !until.IsZero() {
		w.timer.Reset(time.Until(until))
	}
	var err error
	select {
	case l := <-w.grant:
		return p.granted(w, l)
	case <-ctx.Done():
		err = ctx.Err()
	case <-w.timer.C:
		err = context.DeadlineExceeded
	}
	p.mu.Lock()
	p.waiting = slices.DeleteFunc(p.waiting, func(o *waiter) bool { return o == w })
	p.mu.Unlock()
	select {
	case l := <-w.grant: // came at the same moment
		if l, _ = p.granted(w, l); l != nil {
			l.Release()
		}
	default:
		p.done(w)
	}
	return nil, err
}

// queue makes somebody wait for key; p.mu is held.
func (p *Pool) queue(key string) *waiter {
	var w *waiter
	if n := len(p.spare) - 1; n >= 0 {
		w, p.spare = p.spare[n], p.spare[:n]
	} else {
		w = &waiter{grant: make(chan *Lease, 1), timer: time.NewTimer(time.Hour)}
		w.timer.Stop()
	}
	w.key = key
	p.waiting = append(p.waiting, w)
	return w
}

// granted ends the wait of w with what it got; a closed pool gives nothing.
func (p *Pool) granted(w *waiter, l *Lease) (*Lease, error) {
	p.done(w)
	if l == nil {
		return nil, ErrClosed
	}
	return l, nil
}

// done keeps w, for which nobody waits and to which nothing is sent any more.
func (p *Pool) done(w *waiter) {
	w.timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.spare) < maxSpare {
		p.spare = append(p.spare, w)
	}
}

// grant gives a lease if the limits allow one now; p.mu is held.
func (p *Pool) grant(key string) *Lease {
	pl := p.places[key]
	for pl != nil && len(pl.idle) > 0 {
		n := len(pl.idle) - 1
		c := pl.idle[n] // the one used last, so that the others can age
		pl.idle = pl.idle[:n]
		p.idle--
		if c.alive() {
			return &Lease{Client: c, pool: p, key: key}
		}
		c.broken = true
		c.Close()
		p.drop(key, pl)
		pl = p.places[key]
	}
	if pl != nil && pl.open >= p.limits.PerKey || p.open >= p.limits.Total && !p.evict() {
		return nil
	}
	if pl = p.places[key]; pl == nil {
		pl = &place{}
		p.places[key] = pl
	}
	pl.open++
	p.open++
	return &Lease{pool: p, key: key}
}

// drop forgets one session of a place.
func (p *Pool) drop(key string, pl *place) {
	pl.open--
	p.open--
	if pl.open == 0 {
		delete(p.places, key)
	}
}

// evict closes the idle session that was unused for longest.
func (p *Pool) evict() bool {
	if p.idle == 0 {
		return false
	}
	var oldest *place
	var key string
	for k, pl := range p.places {
		if len(pl.idle) > 0 && (oldest == nil || pl.idle[0].used.Before(oldest.idle[0].used)) {
			oldest, key = pl, k
		}
	}
	c := oldest.idle[0]
	oldest.idle = oldest.idle[1:]
	p.idle--
	p.drop(key, oldest)
	c.Close()
	return true
}

// Drop closes the session but keeps the place, for a fresh one.
func (l *Lease) Drop() {
	if l.Client != nil {
		l.Client.Close()
		l.Client = nil
	}
}

// Release gives the place back, and the session if it is good for more.
func (l *Lease) Release() {
	p, c := l.pool, l.Client
	l.Client = nil
	keep := c != nil && c.Usable() && c.Spent() < p.limits.Messages
	if c != nil && !keep {
		c.Close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pl := p.places[l.key]
	if keep && !p.closed {
		c.used = time.Now()
		pl.idle = append(pl.idle, c)
		if p.idle++; p.idle > p.limits.Kept {
			p.evict()
		}
		if p.sweep == nil {
			p.sweep = p.later(p.limits.Idle)
		}
	} else {
		if keep {
			c.Close()
		}
		p.drop(l.key, pl)
	}
	p.serve()
}

// serve gives what was released to the first of those who wait that may have it.
// It is one session or place, so that the others go on waiting.
func (p *Pool) serve() {
	for i, w := range p.waiting {
		if l := p.grant(w.key); l != nil {
			w.grant <- l
			p.waiting = slices.Delete(p.waiting, i, i+1)
			return
		}
	}
}

// later runs the sweep once.
func (p *Pool) later(d time.Duration) *time.Timer {
	p.wg.Add(1)
	return time.AfterFunc(d, func() {
		defer p.wg.Done()
		p.closeIdle()
	})
}

// closeIdle closes what was unused for too long, and comes back while there is
// anything idle.
func (p *Pool) closeIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep = nil
	if p.closed {
		return
	}
	cut := time.Now().Add(-p.limits.Idle)
	left := false
	for key, pl := range p.places {
		n := 0
		for n < len(pl.idle) && !pl.idle[n].used.After(cut) {
			pl.idle[n].Close()
			n++
		}
		pl.idle = slices.Delete(pl.idle, 0, n)
		p.idle -= n
		left = left || len(pl.idle) > 0
		for range n {
			p.drop(key, pl)
		}
	}
	if left {
		p.sweep = p.later(max(p.limits.Idle/4, 10*time.Millisecond))
	}
}

// Open counts the sessions, idle ones included.
func (p *Pool) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

// Close closes the idle sessions and refuses new leases. Sessions on lease are
// closed when they are released.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	for key, pl := range p.places {
		for _, c := range pl.idle {
			c.Close()
			p.drop(key, pl)
		}
		p.idle -= len(pl.idle)
		pl.idle = nil
	}
	for _, w := range p.waiting {
		w.grant <- nil
	}
	p.waiting = nil
	if p.sweep != nil && p.sweep.Stop() {
		p.wg.Done()
	}
	p.mu.Unlock()
	p.wg.Wait()
	return nil
}
