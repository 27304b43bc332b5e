package dispatch

import (
	"context"
	"errors"
	"time"

	"behalf/mail"
	"behalf/spool"
)

const (
	sweepEvery = time.Second
	sweepPage  = 512
	// sweepAll is how often it looks at all that is due, and not only at what
	// became due since the last time: where many were due just before, the store
	// passes over all their deleted rows to find the next.
	sweepAll = 10
)

// sweep is the sweeper's goroutine: it expires, releases and calls late what
// the clock says, wherever it waits.
func (d *Dispatcher) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var last *spool.Timer // that was looked at
	for looks := 0; ; looks++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		from := last
		if looks%sweepAll == 0 {
			from = nil
		}
		seen, err := d.sweepBehind(ctx, from)
		if last == nil || seen != nil && !seen.At.Before(last.At) {
			last = seen
		}
		if err != nil && ctx.Err() == nil {
			d.o.Log.Error("dispatch: timers cannot be handled; trying again", "err", err)
		}
	}
}

// sweepBehind handles what is due behind a timer (nil: all), a page at a time,
// and gives the last. Timers of messages that are being tried stay due and come
// by again.
func (d *Dispatcher) sweepBehind(ctx context.Context, last *spool.Timer) (*spool.Timer, error) {
	now := time.Now()
	var errs error
	for {
		timers, err := d.sp.TimersAfter(ctx, now, last, sweepPage)
		if err != nil || len(timers) == 0 || ctx.Err() != nil {
			return last, errors.Join(errs, err)
		}
		errs = errors.Join(errs, d.timed(ctx, timers))
		last = &timers[len(timers)-1]
	}
}

// timed does what a page of timers is for.
func (d *Dispatcher) timed(ctx context.Context, timers []spool.Timer) (errs error) {
	var ids [opDelay + 1][]mail.ID
	for _, t := range timers {
		switch t.What {
		case spool.TimerExpire:
			ids[opExpire] = append(ids[opExpire], t.ID)
		case spool.TimerRelease:
			ids[opTimer] = append(ids[opTimer], t.ID)
		case spool.TimerDelay:
			ids[opDelay] = append(ids[opDelay], t.ID)
		}
	}
	for _, kind := range []opKind{opExpire, opTimer, opDelay} {
		o := &operation{kind: kind, op: Op{Actor: "clock", Reason: sweepReason[kind]}}
		for rest := ids[kind]; len(rest) > 0; {
			n := min(opBatch, len(rest))
			_, _, _, err := d.operate(ctx, rest[:n], o)
			errs = errors.Join(errs, err)
			rest = rest[n:]
		}
	}
	return errs
}

var sweepReason = [...]string{
	opExpire: "",
	opTimer:  "its hold has ended",
	opDelay:  "not delivered yet; it is still being tried",
}
