package replay

import (
	"slices"
	"time"

	"behalf/limit"
	"behalf/policy"
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
	taken      limit.Reservation
	counted    map[limit.Key]int64
	later      []policy.Limit // named before what they count is known
	stopped    map[stop]bool
}

// stop is one way in which a limit stopped a transaction.
type stop struct {
	rule string
	how  limit.Over
}

// ask lets the limits of a decision count, as the relay does: a message once,
// recipients one by one, bytes when they are known. It reports whether what was
// asked about passes.
func (s *simulation) ask(c *course, at time.Time, pkg string, size int64, d *policy.Decision) bool {
	if d.Failure() != nil {
		return false
	}
	var asks []limit.Ask
	var rules []string
	add := func(l policy.Limit, n int64) {
		key := limit.KeyOf(append([]string{l.Rule, string(l.Count), l.Per.String()}, l.Key...)...)
		if n -= c.counted[key]; pkg == policy.PackageRecipient && l.Count == policy.CountRecipients {
			n = 1
		}
		if i := slices.IndexFunc(asks, func(a limit.Ask) bool { return a.Key == key }); i >= 0 {
			asks[i].Rate, asks[i].Burst = min(asks[i].Rate, l.Rate), min(asks[i].Burst, l.Burst)
		} else if n > 0 {
			asks = append(asks, limit.Ask{Key: key, Rate: l.Rate, Per: l.Per, Burst: l.Burst, N: n, Over: limit.Over(l.Over), MaxWait: l.MaxWait})
			rules = append(rules, l.Rule)
		}
	}
	own := len(c.later)
	for i, l := range append(c.later[:own:own], d.Limits...) {
		switch {
		case l.Count == policy.CountMessages:
			add(l, 1)
		case l.Count == policy.CountRecipients && pkg == policy.PackageRecipient:
			add(l, 1)
		case l.Count == policy.CountRecipients && pkg == policy.PackageMessage:
			add(l, c.recipients)
		case l.Count == policy.CountBytes && pkg == policy.PackageMessage:
			add(l, size)
		case i >= own && len(c.later) < 1000:
			c.later = append(c.later, l)
		}
	}
	return s.reserve(c, at, asks, rules)
}

func (s *simulation) reserve(c *course, at time.Time, asks []limit.Ask, rules []string) bool {
	if len(asks) == 0 {
		return true
	}
	v := s.limiter.Reserve(at, asks, &c.taken)
	if !v.OK || v.Over != "" && v.Over != limit.OverDefer {
		how := v.Over
		if !v.OK {
			how = limit.OverDefer
		}
		if c.stopped == nil {
			c.stopped = map[stop]bool{}
		}
		if len(c.stopped) < 1000 {
			c.stopped[stop{rules[v.Binding], how}] = true
		}
	}
	if !v.OK {
		return false
	}
	if c.counted == nil {
		c.counted = map[limit.Key]int64{}
	}
	for _, a := range asks {
		c.counted[a.Key] += a.N
	}
	return true
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
