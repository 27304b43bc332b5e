package dispatch

import (
	"math"
	"time"
)

// Pace says how fast a site may be given recipients: a token bucket that is
// wide open until the site complains of the rate, then narrows, and widens
// again while it does not complain. It is pure: the caller says what time it
// is. The zero Pace does not limit.
type Pace struct {
	rate   float64 // recipients a second; 0: not limited
	tokens float64
	filled time.Time // when tokens was right
	until  time.Time // nothing before, because the site said so
	slowed time.Time // last narrowing
	grown  time.Time // last widening

	begun time.Time // of the interval in which taken is counted
	taken float64
	seen  float64 // rate of the interval before
}

const (
	paceInterval = 5 * time.Second
	paceFloor    = 0.1  // a second, after hard answers
	paceSoft     = 5.0  // likewise after soft ones
	paceOpen     = 500. // from here on it no longer limits
	paceDoubles  = time.Minute
)

// Next is the earliest time at which one more recipient may be tried; it is
// not after now when that is now.
func (p *Pace) Next(now time.Time) time.Time {
	at := now
	if p.rate > 0 {
		if p.fill(now); p.tokens < 1 {
			at = now.Add(time.Duration(math.Ceil((1 - p.tokens) / p.rate * float64(time.Second))))
		}
	}
	if p.until.After(at) {
		return p.until
	}
	return at
}

// Rate is the limit in recipients a second; 0 means none.
func (p *Pace) Rate() float64 { return p.rate }

// Take counts n recipients. It may run into debt, which later ones wait for.
func (p *Pace) Take(now time.Time, n int) {
	if d := now.Sub(p.begun); d >= paceInterval {
		p.seen = p.taken / d.Seconds()
		p.begun, p.taken = now, 0
	}
	p.taken += float64(n)
	if p.rate > 0 {
		p.fill(now)
		p.tokens -= float64(n)
	}
}

// Pause lets nothing pass before until.
func (p *Pace) Pause(until time.Time) {
	if until.After(p.until) {
		p.until = until
	}
}

// Slow narrows the pace after a complaint: to half the present rate when it is
// hard (it spoke of all we send), by a tenth when it is soft (as
// greylisting is, which is about single recipients). What comes within five
// seconds of a narrowing was under way then and counts as the same complaint.
func (p *Pace) Slow(now time.Time, hard bool) {
	if !p.slowed.IsZero() && now.Sub(p.slowed) < paceInterval {
		return
	}
	rate := p.rate
	if !hard && rate == 0 && p.seen == 0 && now.Sub(p.begun) < paceInterval {
		return // how fast it was is not known yet
	}
	p.slowed, p.grown = now, now
	if rate == 0 {
		rate = max(p.observed(now), 1)
		p.tokens, p.filled = 0, now
	}
	if hard {
		p.rate = max(paceFloor, rate/2)
	} else {
		p.rate = max(min(rate, paceSoft), rate*0.9)
	}
}

// Grow widens the pace after a success: twice as fast for each minute without
// a complaint.
func (p *Pace) Grow(now time.Time) {
	if p.rate == 0 {
		return
	}
	d := min(now.Sub(p.grown), paceDoubles)
	p.fill(now)
	p.grown = now
	p.rate *= math.Exp2(d.Seconds() / paceDoubles.Seconds())
	if p.rate >= paceOpen {
		p.rate = 0
	}
}

// Open takes back a pause.
func (p *Pace) Open() { p.until = time.Time{} }

func (p *Pace) observed(now time.Time) float64 {
	return max(p.seen, p.taken/max(1, now.Sub(p.begun).Seconds()))
}

// fill adds what has come in since the last time; a second's worth at most is
// kept.
func (p *Pace) fill(now time.Time) {
	p.tokens = min(max(1, p.rate), p.tokens+now.Sub(p.filled).Seconds()*p.rate)
	p.filled = now
}
