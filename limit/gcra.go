package limit

import (
	"math"
	"time"
)

// Over says what becomes of a request that exceeds a limit.
type Over string

// The values of Over.
const (
	OverDefer Over = "defer" // it is refused for now
	OverPace  Over = "pace"  // it is taken and waits for its turn
	OverHold  Over = "hold"  // it is taken and held until its turn
)

// Never is the wait of a request that can never pass: it asks for more than the
// burst.
const Never = time.Duration(math.MaxInt64)

// Ask is one limit that a request falls under.
type Ask struct {
	// Key names what is counted, with the rule and the window: see [KeyOf].
	Key   Key
	Rate  float64       // that many in Per, over zero
	Per   time.Duration // over zero
	Burst int64         // that many at once; less than 1 counts as 1
	N     int64         // how many are asked for; less than 1 counts as 1
	Over  Over          // empty: OverDefer
	// MaxWait bounds the wait of OverPace and OverHold; who would wait longer is
	// refused. Zero: no bound.
	MaxWait time.Duration
	// State and Wait are filled in by [Limiter.Reserve]: where the limit stands
	// now, and how long the request must wait for it.
	State
	Wait time.Duration
}

// maxSpan bounds spans of time, so that instants cannot overflow: a century.
const maxSpan = 100 * 365 * 24 * time.Hour

// cost is how much of the period n take. It is rounded down, so that a whole
// burst fits: by less than a nanosecond for each request.
func (a *Ask) cost(n int64) time.Duration {
	c := a.exact() * float64(max(n, 1))
	return time.Duration(max(1, min(c, float64(maxSpan))))
}

// tolerance is how far the arrival time may run ahead of the clock.
func (a *Ask) tolerance() time.Duration {
	t := math.Ceil(a.exact() * float64(max(a.Burst, 1)))
	return time.Duration(min(t, float64(maxSpan)))
}

// step is GCRA: from the arrival time of a key to the next one, and how long the
// request must wait for it (zero: it passes now). Instants are nanoseconds since
// 1970.
func (a *Ask) step(tat, now int64) (next int64, wait time.Duration) {
	next = max(tat, now) + int64(a.cost(a.N))
	wait = time.Duration(next - now - int64(a.tolerance()))
	return next, max(0, wait)
}

// takes reports whether the request, which would move the arrival time to next,
// is taken although it must wait. Nothing waits longer than maxSpan, bound or
// not: so no instant that is kept can overflow.
func (a *Ask) takes(next, now int64) bool {
	if a.Wait == 0 {
		return true
	}
	if a.Over != OverPace && a.Over != OverHold || next > now+int64(maxSpan) {
		return false
	}
	return a.MaxWait <= 0 || a.Wait <= a.MaxWait
}

// State is where one key stands.
type State struct {
	Remaining int64     // that many would pass now
	ResetAt   time.Time // when the whole burst may pass again; zero: now
}

func (a *Ask) state(tat, now int64) State {
	if tat <= now {
		return State{Remaining: max(a.Burst, 1)}
	}
	left := a.tolerance() - time.Duration(tat-now)
	s := State{ResetAt: time.Unix(0, tat).UTC()}
	if left > 0 {
		s.Remaining = int64(left / a.cost(1))
	}
	return s
}

// above is until when a bucket with the arrival time tat is used up to a share in
// percent at least, counting what has come back in part as used.
func (a *Ask) above(tat int64, percent int) int64 {
	share := math.Ceil(float64(max(a.Burst, 1)) * float64(percent) / 100)
	return tat - int64(min(a.exact()*(share-1), float64(maxSpan)))
}

// exact is how much of the period one takes.
func (a *Ask) exact() float64 { return float64(a.Per) / a.Rate }
