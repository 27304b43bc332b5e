package limit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a [Limiter].
type Options struct {
	// MaxKeys bounds the keys in memory; default 1,000,000, which take about
	// 100 MiB.
	MaxKeys int
}

// Limiter keeps limits. Its methods may be called from many goroutines.
type Limiter struct {
	shards  [shardCount]shard
	maxEach int
	dropped atomic.Uint64
}

const shardCount = 64

// hash stands for a key: half a SHA-256, so that no tenant can find a key that
// meets another's.
type hash [16]byte

func (h hash) shard() int { return int(h[0]) % shardCount }

// bucket is the state of one key.
type bucket struct {
	tat    int64 // theoretical arrival time, nanoseconds since 1970
	dirty  bool  // in the shard's list of changes
	stored bool  // the store has a row of it
}

type shard struct {
	mu      sync.Mutex
	buckets map[hash]bucket
	changed []hash // since the last snapshot
	gone    []hash // stored and forgotten since
}

// New makes an empty limiter; see [Limiter.Load] and [Limiter.Run].
func New(o Options) *Limiter {
	if o.MaxKeys <= 0 {
		o.MaxKeys = 1_000_000
	}
	l := &Limiter{maxEach: max(1, o.MaxKeys/shardCount)}
	for i := range l.shards {
		l.shards[i].buckets = map[hash]bucket{}
	}
	return l
}

// Key joins what a limit counts by into one key, so that different lists never
// give the same.
func Key(parts ...string) string {
	n := 0
	for _, p := range parts {
		n += len(p) + 2
	}
	b := make([]byte, 0, n)
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	return string(b)
}

func hashOf(key string) hash {
	sum := sha256.Sum256([]byte(key))
	return hash(sum[:16])
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
}

// Reservation is what was taken from limits and may be given back.
type Reservation struct {
	l     *Limiter
	parts []part
}

type part struct {
	key         hash
	before, tat int64 // arrival time before and after
}

// Reserve takes what asks says from every limit, or nothing from any. A nil
// reservation goes with a refusal. Equal keys in asks are counted one after the
// other.
func (l *Limiter) Reserve(now time.Time, asks []Ask) (*Reservation, Verdict) {
	if len(asks) == 0 {
		return &Reservation{l: l}, Verdict{OK: true, Binding: -1}
	}
	r := &Reservation{l: l, parts: make([]part, len(asks))}
	for i := range asks {
		r.parts[i].key = hashOf(asks[i].Key)
	}
	locked := l.lock(r.parts)
	defer l.unlock(locked)
	v := r.take(now.UnixNano(), asks)
	if !v.OK {
		return nil, v
	}
	return r, v
}

// lock locks the shards of parts in order, and gives the set of them.
func (l *Limiter) lock(parts []part) (shards uint64) {
	for i := range parts {
		shards |= 1 << parts[i].key.shard()
	}
	for i := range shardCount {
		if shards&(1<<i) != 0 {
			l.shards[i].mu.Lock()
		}
	}
	return shards
}

func (l *Limiter) unlock(shards uint64) {
	for i := range shardCount {
		if shards&(1<<i) != 0 {
			l.shards[i].mu.Unlock()
		}
	}
}

// take finds out whether all asks can be granted and then takes them. The shards
// are locked.
func (r *Reservation) take(now int64, asks []Ask) Verdict {
	v := Verdict{OK: true, Binding: -1}
	for i := range asks {
		a, p := &asks[i], &r.parts[i]
		p.before = r.l.tat(p.key)
		for _, earlier := range r.parts[:i] {
			if earlier.key == p.key {
				p.before = earlier.tat
			}
		}
		next, wait := a.step(p.before, now)
		if a.takes(wait) {
			p.tat = next
			v.pass(i, a, wait, a.state(next, now))
		} else {
			p.tat = p.before // the others are looked at as if this one had not asked
			v.refuse(i, a, wait, a.state(p.before, now))
		}
	}
	if v.OK {
		for _, p := range r.parts {
			r.l.set(p.key, p.tat, now)
		}
	}
	return v
}

// refuse makes the verdict a refusal by ask i, unless another one binds longer.
func (v *Verdict) refuse(i int, a *Ask, wait time.Duration, s State) {
	if max(a.N, 1) > max(a.Burst, 1) && a.Over != OverPace && a.Over != OverHold {
		wait = Never
	}
	if v.OK || wait > v.Wait {
		*v = Verdict{Over: OverDefer, Wait: wait, Binding: i, State: s}
	}
}

// pass notes an ask that is granted, after a wait or at once.
func (v *Verdict) pass(i int, a *Ask, wait time.Duration, s State) {
	if !v.OK {
		return
	}
	if wait > v.Wait || v.Wait == 0 && (v.Binding < 0 || s.Remaining < v.Remaining) {
		v.Wait, v.Binding, v.State = wait, i, s
	}
	if wait > 0 && v.Over != OverHold {
		v.Over = a.Over
	}
}

// Commit keeps what was reserved. Calling it is optional and says that Abort
// must do nothing any more.
func (r *Reservation) Commit() {
	if r != nil {
		r.parts = nil
	}
}

// Abort gives back what was reserved, at most once. What has since come back by
// itself is not given a second time.
func (r *Reservation) Abort(now time.Time) {
	if r == nil || len(r.parts) == 0 {
		return
	}
	locked := r.l.lock(r.parts)
	defer r.l.unlock(locked)
	at := now.UnixNano()
	for _, p := range r.parts {
		// Without this reservation, those that came after it would have begun at
		// the latest now, so this much at least is theirs to keep.
		if back := p.tat - max(p.before, at); back > 0 {
			r.l.set(p.key, r.l.tat(p.key)-back, at)
		}
	}
	r.parts = nil
}

// Peek tells where the limit a stands, without taking anything.
func (l *Limiter) Peek(now time.Time, a Ask) State {
	h := hashOf(a.Key)
	s := &l.shards[h.shard()]
	s.mu.Lock()
	defer s.mu.Unlock()
	return a.state(l.tat(h), now.UnixNano())
}

// Keys is how many keys are in memory, and how many were dropped for the bound
// since the start.
func (l *Limiter) Keys() (held int, dropped uint64) {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		held += len(s.buckets)
		s.mu.Unlock()
	}
	return held, l.dropped.Load()
}

// tat is the arrival time of a key; its shard is locked.
func (l *Limiter) tat(h hash) int64 { return l.shards[h.shard()].buckets[h].tat }

// set changes the arrival time of a key; its shard is locked.
func (l *Limiter) set(h hash, tat, now int64) {
	s := &l.shards[h.shard()]
	b, known := s.buckets[h]
	if !known && len(s.buckets) >= l.maxEach {
		l.dropped.Add(s.makeRoom(now))
	}
	b.tat = tat
	if !b.dirty {
		b.dirty = true
		if len(s.changed) >= 2*l.maxEach {
			s.tidy()
		}
		s.changed = append(s.changed, h)
	}
	s.buckets[h] = b
}

// makeRoom drops, of some keys that the map gives at random, those that are full
// again, or else the one nearest to it. It tells how many it dropped unduly.
func (s *shard) makeRoom(now int64) (unduly uint64) {
	const sample = 16
	var victim hash
	least, seen, dropped := int64(0), 0, false
	for h, b := range s.buckets {
		if b.tat <= now {
			s.drop(h, b)
			dropped = true
		} else if least == 0 || b.tat < least {
			victim, least = h, b.tat
		}
		if seen++; seen == sample {
			break
		}
	}
	if dropped {
		return 0
	}
	s.drop(victim, s.buckets[victim])
	return 1
}

// maxGone bounds the rows that a shard remembers to delete. Those beyond it stay
// in the store until the next Load, which deletes rows of full buckets.
const maxGone = 1 << 16

func (s *shard) drop(h hash, b bucket) {
	delete(s.buckets, h)
	if b.stored && len(s.gone) < maxGone {
		s.gone = append(s.gone, h)
	}
}

// sweep drops the keys of a shard that are full again.
func (s *shard) sweep(now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for h, b := range s.buckets {
		if b.tat <= now {
			s.drop(h, b)
		}
	}
	s.tidy()
}

// tidy takes from the list of changes what was dropped since, and repetitions.
func (s *shard) tidy() {
	slices.SortFunc(s.changed, func(a, b hash) int { return bytes.Compare(a[:], b[:]) })
	s.changed = slices.Compact(s.changed)
	s.changed = slices.DeleteFunc(s.changed, func(h hash) bool { return !s.buckets[h].dirty })
}
