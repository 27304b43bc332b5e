package limit

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a [Limiter].
type Options struct {
	// MaxKeys bounds the keys in memory; default 1,000,000, which take 30 MiB.
	MaxKeys int
}

// Limiter keeps limits. Its methods may be called from many goroutines.
type Limiter struct {
	shards  [shardCount]shard
	maxEach int
	dropped atomic.Uint64
	pages   pages
}

const shardCount = 64

type shard struct {
	mu sync.Mutex
	table
}

// New makes an empty limiter; see [Limiter.Load] and [Limiter.Run].
func New(o Options) *Limiter {
	if o.MaxKeys <= 0 {
		o.MaxKeys = 1_000_000
	}
	l := &Limiter{maxEach: max(1, o.MaxKeys/shardCount)}
	for i := range l.shards {
		l.shards[i].table = newTable(leastSize)
	}
	return l
}

// Verdict is the answer to a request.
type Verdict struct {
	OK bool // reserved
	// Over says how to treat what was reserved although it must wait: OverPace
	// or OverHold until Wait has passed; OverDefer when it was refused; empty
	// when it passes now.
	Over Over
	// Wait is how long until the request may go (when reserved) or may be asked
	// again with success, if nothing else comes between. [Never]: it is larger
	// than a burst.
	Wait time.Duration
	// Binding is the index in asks of the limit that binds: the one that refuses
	// or makes wait longest, else the one with the least left. -1 without asks.
	Binding int
	State   // of the binding limit after the request
	// Warnings are the thresholds that this request is the first to pass in a
	// while. Nil as a rule.
	Warnings []Warning
}

// Reservation is what was taken from limits and may be given back. The zero
// value holds nothing.
type Reservation struct {
	l     *Limiter
	parts []part
}

// usualParts is how many limits a message falls under as a rule, over all stages.
const usualParts = 6

type part struct {
	key         Key
	before, tat int64 // arrival time before and after
	note        bool  // that a warning was given; nothing is counted by it
}

// Reserve takes what asks says from every limit, or nothing from any, and adds
// it to r. Equal keys in asks are counted one after the other.
func (l *Limiter) Reserve(now time.Time, asks []Ask, r *Reservation) Verdict {
	if len(asks) == 0 {
		return Verdict{OK: true, Binding: -1}
	}
	r.l = l
	begin := len(r.parts)
	if r.parts == nil {
		r.parts = make([]part, 0, max(len(asks), usualParts))
	}
	for i := range asks {
		r.parts = append(r.parts, part{key: asks[i].Key})
	}
	locked := l.lock(r.parts[begin:])
	defer l.unlock(locked)
	v := l.take(now.UnixNano(), asks, r.parts[begin:])
	if !v.OK {
		r.parts = r.parts[:begin]
	}
	l.warn(now.UnixNano(), asks, &v, r)
	return v
}

// lock locks the shards of parts in order, and gives the set of them.
func (l *Limiter) lock(parts []part) (shards uint64) {
	for i := range parts {
		shards |= 1 << parts[i].key.shard()
	}
	for s := shards; s != 0; s &= s - 1 {
		l.shards[bits.TrailingZeros64(s)].mu.Lock()
	}
	return shards
}

func (l *Limiter) unlock(shards uint64) {
	for s := shards; s != 0; s &= s - 1 {
		l.shards[bits.TrailingZeros64(s)].mu.Unlock()
	}
}

// take finds out whether all asks can be granted and then takes them. The shards
// are locked.
func (l *Limiter) take(now int64, asks []Ask, parts []part) Verdict {
	v := Verdict{OK: true, Binding: -1}
	for i := range asks {
		a, p := &asks[i], &parts[i]
		p.before = l.tat(p.key)
		for _, earlier := range parts[:i] {
			if earlier.key == p.key {
				p.before = earlier.tat
			}
		}
		var next int64
		next, a.Wait = a.step(p.before, now)
		if a.takes(next, now) {
			p.tat = next
			a.State = a.state(next, now)
			v.pass(i, a)
		} else {
			p.tat = p.before // the others are looked at as if this one had not asked
			a.State = a.state(p.before, now)
			v.refuse(i, a)
		}
	}
	if v.OK {
		for _, p := range parts {
			l.set(p.key, p.tat, now)
		}
	}
	return v
}

// refuse makes the verdict a refusal by ask i, unless another one binds longer.
func (v *Verdict) refuse(i int, a *Ask) {
	if max(a.N, 1) > max(a.Burst, 1) && a.Over != OverPace && a.Over != OverHold {
		a.Wait = Never
	}
	if v.OK || a.Wait > v.Wait {
		*v = Verdict{Over: OverDefer, Wait: a.Wait, Binding: i, State: a.State}
	}
}

// pass notes an ask that is granted, after a wait or at once.
func (v *Verdict) pass(i int, a *Ask) {
	if !v.OK {
		return
	}
	if a.Wait > v.Wait || v.Wait == 0 && (v.Binding < 0 || a.Remaining < v.Remaining) {
		v.Wait, v.Binding, v.State = a.Wait, i, a.State
	}
	if a.Wait > 0 && v.Over != OverHold {
		v.Over = a.Over
	}
}

// Len is how much a reservation holds by now, for [Reservation.Return].
func (r *Reservation) Len() int { return len(r.parts) }

// Return gives back what was added to the reservation between two moments, told
// by [Reservation.Len], and keeps the rest. Warnings stay given.
func (r *Reservation) Return(now time.Time, from, to int) {
	to = min(to, len(r.parts))
	if from >= to {
		return
	}
	some, rest := Reservation{l: r.l}, r.parts[:from:from]
	for _, p := range r.parts[from:to] {
		if p.note {
			rest = append(rest, p)
		} else {
			some.parts = append(some.parts, p)
		}
	}
	r.parts = append(rest, r.parts[to:]...)
	some.Abort(now)
}

// Commit keeps what was reserved: Abort does nothing any more.
func (r *Reservation) Commit() { r.parts = nil }

// Abort gives back what was reserved, at most once. What has since come back by
// itself is not given a second time.
func (r *Reservation) Abort(now time.Time) {
	if len(r.parts) == 0 {
		return
	}
	locked := r.l.lock(r.parts)
	defer r.l.unlock(locked)
	at := now.UnixNano()
	for _, p := range r.parts {
		if p.note {
			if r.l.tat(p.key) >= p.tat {
				r.l.set(p.key, p.before, at)
			}
			continue
		}
		// Without this reservation, those that came after it would have begun at
		// the latest now, so this much at least is theirs to keep.
		if back := p.tat - max(p.before, at); back > 0 {
			r.l.set(p.key, r.l.tat(p.key)-back, at)
		}
	}
	r.parts = nil
}

// Would tells what Reserve would answer about a, without taking anything.
func (l *Limiter) Would(now time.Time, a Ask) Verdict {
	s := &l.shards[a.Key.shard()]
	s.mu.Lock()
	tat := s.tat(a.Key)
	s.mu.Unlock()
	v := Verdict{OK: true, Binding: -1}
	var next int64
	next, a.Wait = a.step(tat, now.UnixNano())
	if a.State = a.state(tat, now.UnixNano()); a.takes(next, now.UnixNano()) {
		v.pass(0, &a)
	} else {
		v.refuse(0, &a)
	}
	return v
}

// Peek tells where the limit a stands, without taking anything.
func (l *Limiter) Peek(now time.Time, a Ask) State { return l.Would(now, a).State }

// Keys is how many keys are in memory, and how many were dropped for the bound
// since the start.
func (l *Limiter) Keys() (held int, dropped uint64) {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		held += s.n
		s.mu.Unlock()
	}
	return held, l.dropped.Load()
}

// tat is the arrival time of a key; its shard is locked.
func (l *Limiter) tat(k Key) int64 { return l.shards[k.shard()].tat(k) }

// set changes the arrival time of a key; its shard is locked.
func (l *Limiter) set(k Key, tat, now int64) {
	s := &l.shards[k.shard()]
	l.dropped.Add(s.makeRoom(k, l.maxEach, now))
	s.put(k, tat, true)
}

// makeRoom lets one more key fit: it drops those that are full again, and only
// when there is none the one of some that will be so the soonest. It tells how
// many it dropped unduly.
func (s *shard) makeRoom(k Key, most int, now int64) (unduly uint64) {
	if s.room(most) {
		return 0
	}
	if _, known := s.find(k); known || s.sweep(now) > 0 {
		return 0
	}
	s.evict(k)
	return 1
}
