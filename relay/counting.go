package relay

import (
	"slices"
	"time"

	"behalf/limit"
	"behalf/policy"
)

// Counting tells what limits count of one transaction: a message once,
// recipients one by one, also in a limit that the sender stage named, and bytes
// when the message has come. The relay counts by it and so does a replay, so
// that they agree.
type Counting struct {
	counted      map[limit.Key]int64 // what each limit has counted so far
	perRecipient []keyed             // named by the sender stage, asked at each RCPT
	perByte      []keyed             // asked once the size is known
	batch        batch
}

// Stage is what is known of a transaction once a stage has decided.
type Stage struct {
	Package    string
	Declared   int64 // SIZE of MAIL FROM; 0: none
	Recipients int64 // taken before
	Size       int64 // of the message, at its stage
}

// Reserve takes what the limits that a stage named ask for, and those that
// earlier stages named and this one can count: all of it, or nothing.
func (c *Counting) Reserve(l *limit.Limiter, now time.Time, at Stage, limits []policy.Limit, r *limit.Reservation) limit.Verdict {
	for _, one := range limits {
		if v := c.early(l, now, at, one); !v.OK {
			return v
		}
	}
	c.gather(at, limits)
	v := l.Reserve(now, c.batch.asks, r)
	if !v.OK {
		return v
	}
	if len(c.batch.asks) > 0 && c.counted == nil {
		c.counted = map[limit.Key]int64{}
	}
	for _, a := range c.batch.asks {
		c.counted[a.Key] += a.N
	}
	return v
}

// Rule is the rule of the limit that bound in the last Reserve; the verdict's
// Binding is not -1.
func (c *Counting) Rule(v limit.Verdict) string { return c.batch.rules[v.Binding].Rule }

// early refuses a message whose declared size a limit on bytes would not let
// pass, before its bytes come.
func (c *Counting) early(l *limit.Limiter, now time.Time, at Stage, one policy.Limit) limit.Verdict {
	pass := limit.Verdict{OK: true, Binding: -1}
	if one.Count != policy.CountBytes || at.Package == policy.PackageMessage || at.Declared <= 0 {
		return pass
	}
	k := keyed{one, limitKey(one)}
	if l.Would(now, k.ask(at.Declared)).OK {
		return pass
	}
	c.batch.clear()
	c.batch.add(k, at.Declared)
	var taken limit.Reservation
	v := l.Reserve(now, c.batch.asks, &taken) // for its warnings
	taken.Abort(now)
	return v
}

// gather makes the batch of a stage.
func (c *Counting) gather(at Stage, limits []policy.Limit) {
	c.batch.clear()
	switch at.Package {
	case policy.PackageRecipient:
		for _, l := range c.perRecipient {
			c.batch.add(l, 1)
		}
	case policy.PackageMessage:
		for _, l := range c.perByte {
			c.ask(at, l)
		}
	}
	for _, l := range limits {
		c.ask(at, keyed{l, limitKey(l)})
	}
}

// ask adds to the batch what this message has for a limit to count at a stage:
// what there is by now, without what was counted before. A limit on what is not
// known yet is kept for the stage that knows it.
func (c *Counting) ask(at Stage, l keyed) {
	n := int64(0)
	switch {
	case l.Count == policy.CountMessages:
		n = 1 - c.counted[l.key]
	case l.Count == policy.CountBytes && at.Package != policy.PackageMessage:
		c.perByte = keep(c.perByte, l)
	case l.Count == policy.CountBytes:
		n = at.Size - c.counted[l.key]
	case at.Package == policy.PackageSender:
		c.perRecipient = keep(c.perRecipient, l)
	case at.Package == policy.PackageRecipient:
		n = 1
	default:
		n = at.Recipients - c.counted[l.key]
	}
	if n > 0 {
		c.batch.add(l, n)
	}
}

// keyed is a limit with its key.
type keyed struct {
	policy.Limit
	key limit.Key
}

func (l *keyed) ask(n int64) limit.Ask {
	return limit.Ask{Key: l.key, Rate: l.Rate, Per: l.Per, Burst: l.Burst, N: n, Over: limit.Over(l.Over), MaxWait: l.MaxWait}
}

// stricter is a limit that was said twice: fewer of it, refused rather than held
// and held rather than delayed, after the shorter wait.
func stricter(a, b policy.Limit) policy.Limit {
	a.Rate, a.Burst = min(a.Rate, b.Rate), min(a.Burst, b.Burst)
	if strictness(b.Over) > strictness(a.Over) {
		a.Over = b.Over
	}
	if a.MaxWait <= 0 || b.MaxWait > 0 && b.MaxWait < a.MaxWait {
		a.MaxWait = b.MaxWait
	}
	return a
}

func strictness(o policy.Over) int {
	switch o {
	case policy.OverPace:
		return 0
	case policy.OverHold:
		return 1
	}
	return 2
}

// keep adds a limit to a list, as the stricter one if it is there.
func keep(list []keyed, l keyed) []keyed {
	if k := slices.IndexFunc(list, func(o keyed) bool { return o.key == l.key }); k >= 0 {
		list[k].Limit = stricter(list[k].Limit, l.Limit)
		return list
	}
	return append(list, l)
}

// limitKey names a limit by its rule, window and count too, so that two rules
// never share a counter by accident.
func limitKey(l policy.Limit) limit.Key {
	return limit.KeyOf(append(append(make([]string, 0, 8), l.Rule, string(l.Count), l.Per.String()), l.Key...)...)
}

// batch is what is asked of limits at once, with the rules that say so. It is
// used again and again, to spare memory.
type batch struct {
	rules []policy.Limit
	asks  []limit.Ask
}

func (b *batch) clear() { b.rules, b.asks = b.rules[:0], b.asks[:0] }

// ofRecipients has the bits of those of the first 64 that count recipients.
func (b *batch) ofRecipients() (set uint64) {
	for i := range b.rules {
		if b.rules[i].Count == policy.CountRecipients && i < 64 {
			set |= 1 << i
		}
	}
	return set
}

// add asks for n of a limit. Of what is said twice the stricter holds.
func (b *batch) add(l keyed, n int64) {
	a := l.ask(n)
	if k := slices.IndexFunc(b.asks, func(o limit.Ask) bool { return o.Key == a.Key }); k >= 0 {
		l.Limit = stricter(b.rules[k], l.Limit)
		b.rules[k], b.asks[k] = l.Limit, l.ask(b.asks[k].N)
		return
	}
	b.rules, b.asks = append(b.rules, l.Limit), append(b.asks, a)
}
