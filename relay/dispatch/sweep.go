package dispatch

import (
	"context"
	"time"

	"behalf/mail"
	"behalf/spool"
)

const (
	sweepEvery = time.Second
	sweepPage  = 512
	sweepMost  = 1 << 16
)

// sweep is the sweeper's goroutine: it expires, releases and calls late what
// the clock says, wherever it waits.
func (d *Dispatcher) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	limit := sweepPage
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		limit = d.sweepOnce(ctx, limit)
	}
}

// sweepOnce handles one page of timers and says how long the next one shall
// be: longer when this was full of what others handle.
func (d *Dispatcher) sweepOnce(ctx context.Context, limit int) int {
	timers, err := d.sp.Timers(ctx, time.Now(), limit)
	if err != nil {
		if ctx.Err() == nil {
			d.o.Log.Error("dispatch: timers cannot be read; trying again", "err", err)
		}
		return limit
	}
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
	changed := 0
	for _, kind := range []opKind{opExpire, opTimer, opDelay} {
		o := &operation{kind: kind, op: Op{Actor: "clock", Reason: sweepReason[kind]}}
		for rest := ids[kind]; len(rest) > 0; {
			n := min(opBatch, len(rest))
			c, _, _, err := d.operate(ctx, rest[:n], o)
			if err != nil && ctx.Err() == nil {
				d.o.Log.Error("dispatch: timers cannot be handled; trying again", "err", err)
			}
			changed += c
			rest = rest[n:]
		}
	}
	if len(timers) == limit && changed == 0 {
		return min(sweepMost, limit*2)
	}
	return sweepPage
}

var sweepReason = [...]string{
	opExpire: "",
	opTimer:  "its hold has ended",
	opDelay:  "not delivered yet; it is still being tried",
}
