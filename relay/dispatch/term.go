package dispatch

import (
	"context"
	"time"
)

// term is the context of one worker's attempts. A context with a deadline costs
// five allocations and a timer, and most attempts take milliseconds: one serves
// all that begin within the first sixteenth of its time.
type term struct {
	ctx    context.Context
	cancel context.CancelFunc
	fresh  time.Time // until then it is good for another attempt
}

// of gives a context that ends with base, and ends an attempt that begins now
// within d, and not before fifteen sixteenths of that.
func (t *term) of(base context.Context, now time.Time, d time.Duration) context.Context {
	if t.ctx == nil || !now.Before(t.fresh) {
		t.end()
		t.ctx, t.cancel = context.WithDeadline(base, now.Add(d))
		t.fresh = now.Add(d / 16)
	}
	return t.ctx
}

// end lets go of it.
func (t *term) end() {
	if t.cancel != nil {
		t.cancel()
	}
	*t = term{}
}
