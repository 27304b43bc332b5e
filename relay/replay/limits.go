package replay

import (
	"time"

	"behalf/limit"
	"behalf/policy"
	"behalf/relay"
)

// simKeys bounds the keys of one simulated limiter.
const simKeys = 200_000

// simulation runs the limits of one side through a limiter of its own.
type simulation struct {
	limiter *limit.Limiter
	stops   func(*LimitCount) *Stops // of the side
}

// course is one transaction on one side, as its limits see it.
type course struct {
	dead       bool // refused as a whole
	recipients int64
	counting   relay.Counting
	taken      limit.Reservation
	stopped    map[stop]bool
}

// stop is one way in which a limit stopped a transaction.
type stop struct {
	rule string
	how  limit.Over
}

// maxStops bounds the ways in which one transaction was stopped.
const maxStops = 1000

// ask lets the limits of a decision count, as the relay does, and reports
// whether what was asked about passes.
func (s *simulation) ask(c *course, now time.Time, at relay.Stage, d *policy.Decision) bool {
	if d.Failure() != nil {
		return false
	}
	v := c.counting.Reserve(s.limiter, now, at, d.Limits, &c.taken)
	if v.Binding >= 0 && (!v.OK || v.Over != "" && v.Over != limit.OverDefer) {
		how := v.Over
		if !v.OK {
			how = limit.OverDefer
		}
		if c.stopped == nil {
			c.stopped = map[stop]bool{}
		}
		if len(c.stopped) < maxStops {
			c.stopped[stop{c.counting.Rule(v), how}] = true
		}
	}
	return v.OK
}

// end keeps or gives back what the transaction took, and counts what stopped
// it.
func (s *simulation) end(c *course, kept bool, at time.Time, tenant string, t *tally) {
	if kept && !c.dead && c.recipients > 0 {
		c.taken.Commit()
	} else {
		c.taken.Abort(at)
	}
	for one := range c.stopped {
		n := s.stops(t.limit(tenant, one.rule))
		switch one.how {
		case limit.OverPace:
			n.Paced++
		case limit.OverHold:
			n.Held++
		default:
			n.Deferred++
		}
	}
}
