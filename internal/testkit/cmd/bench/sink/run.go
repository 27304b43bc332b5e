package sink

import (
	"bytes"
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Arrivals are the runs whose messages may come, at any of the servers.
type Arrivals struct {
	mu    sync.RWMutex
	runs  map[string]*Run
	next  int64
	stray atomic.Int64
}

// NewArrivals expects nothing yet.
func NewArrivals() *Arrivals {
	return &Arrivals{runs: map[string]*Run{}, next: time.Now().UnixMilli()}
}

// Open expects n messages for so many recipients each.
func (a *Arrivals) Open(n, recipients int) *Run {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next++
	r := &Run{ID: strconv.FormatInt(a.next, 36), recipients: int32(recipients), came: make([]atomic.Int64, n), copies: make([]atomic.Int32, n)}
	a.runs[r.ID] = r
	return r
}

// Close expects nothing more of the run.
func (a *Arrivals) Close(r *Run) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.runs, r.ID)
}

// Stray is how many messages came of no open run.
func (a *Arrivals) Stray() int64 { return a.stray.Load() }

// took notes that a message came for some recipients.
func (a *Arrivals) took(id []byte, recipients int, signed bool) {
	name, number, _ := bytes.Cut(id, []byte("."))
	a.mu.RLock()
	r := a.runs[string(name)]
	a.mu.RUnlock()
	i := digits(number)
	if r == nil || i < 0 || i >= len(r.came) {
		a.stray.Add(1)
		return
	}
	r.took(i, int32(recipients), signed)
}

// digits is the number that b begins with, or -1.
func digits(b []byte) int {
	n, ok := 0, false
	for _, c := range b {
		if c < '0' || c > '9' || n > 1<<40 {
			break
		}
		n, ok = n*10+int(c-'0'), true
	}
	if !ok {
		return -1
	}
	return n
}

// Run is what came of one load. The Message-ID of each of its messages begins
// with ID, a dot and the message's number.
type Run struct {
	ID         string
	recipients int32
	came       []atomic.Int64 // when the last of the recipients had it, in nanoseconds since 1970
	copies     []atomic.Int32 // one for each recipient
	arrived    atomic.Int64
	first      atomic.Int64
	last       atomic.Int64
	signed     atomic.Int64
	twice      atomic.Int64
}

func (r *Run) took(i int, recipients int32, signed bool) {
	got := r.copies[i].Add(recipients)
	if over := got - r.recipients; over > 0 {
		r.twice.Add(int64(min(over, recipients)))
	}
	if got < r.recipients || got-recipients >= r.recipients {
		return
	}
	now := time.Now().UnixNano()
	r.came[i].Store(now)
	r.last.Store(now)
	if r.first.Load() == 0 { // of two at once either is the first
		r.first.Store(now)
	}
	if signed {
		r.signed.Add(1)
	}
	r.arrived.Add(1)
}

// Len is how many messages are expected.
func (r *Run) Len() int { return len(r.came) }

// Came is when message i had reached all its recipients, in nanoseconds since
// 1970; 0: it has not.
func (r *Run) Came(i int) int64 { return r.came[i].Load() }

// Arrived is how many messages reached all their recipients.
func (r *Run) Arrived() int { return int(r.arrived.Load()) }

// First is when the first message had reached all its recipients.
func (r *Run) First() time.Time { return time.Unix(0, r.first.Load()) }

// Last is when the last of them did.
func (r *Run) Last() time.Time { return time.Unix(0, r.last.Load()) }

// Twice is how many recipients had a message once too often.
func (r *Run) Twice() int { return int(r.twice.Load()) }

// Signed is how many messages had a DKIM signature.
func (r *Run) Signed() int { return int(r.signed.Load()) }

// Await waits for n messages, and gives up when none came for so long.
func (r *Run) Await(ctx context.Context, n int, patience time.Duration) {
	before, since := -1, time.Now()
	for r.Arrived() < n && time.Since(since) < patience && ctx.Err() == nil {
		if got := r.Arrived(); got != before {
			before, since = got, time.Now()
		}
		time.Sleep(5 * time.Millisecond)
	}
}
