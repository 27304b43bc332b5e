package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
)

// Stats are counts of what is stored now.
type Stats struct {
	Recipients map[mail.State]int64 // by shown state
	Messages   int64                // all that are kept
	Unfinished int64                // messages with a queued or held recipient
	Oldest     time.Time            // when the oldest queued message was first due, to 10 s; zero if there is none
	LastEvent  uint64               // highest event number
}

// The shown states by their place in a tally. The order is stored: append only.
const (
	atQueued = iota
	atDeferred
	atHeld
	atDelivered
	atFailed
	atBounced
	atExpired
	atCancelled
	atSuppressed
	atDiscarded
	atStates
)

// tally counts recipients by their shown state.
type tally [atStates]int64

func stateNames() [atStates]mail.State {
	return [atStates]mail.State{mail.Queued, mail.Deferred, mail.Held, mail.Delivered, mail.Failed,
		mail.Bounced, mail.Expired, mail.Cancelled, mail.Suppressed, mail.Discarded}
}

// place is where a shown state is counted, -1 for one that does not exist.
func place(s mail.State) int {
	switch s {
	case mail.Queued:
		return atQueued
	case mail.Deferred:
		return atDeferred
	case mail.Held:
		return atHeld
	case mail.Delivered:
		return atDelivered
	case mail.Failed:
		return atFailed
	case mail.Bounced:
		return atBounced
	case mail.Expired:
		return atExpired
	case mail.Cancelled:
		return atCancelled
	case mail.Suppressed:
		return atSuppressed
	case mail.Discarded:
		return atDiscarded
	}
	return -1
}

// placeOf is where r is counted.
func placeOf(r *mail.Recipient) int {
	if r.State == mail.Queued && r.Tries > 0 {
		return atDeferred
	}
	return place(r.State)
}

func (t *tally) add(r *mail.Recipient, n int64) { t[placeOf(r)] += n }

func (t *tally) queued() int64     { return t[atQueued] + t[atDeferred] }
func (t *tally) unfinished() int64 { return t.queued() + t[atHeld] }

// counts is the row that tells how much is stored. It is written in the
// transaction that changes it, so it is right after a crash as well.
type counts struct {
	Tally      tally
	Messages   int64
	Unfinished int64
	Youngest   int64 // time of the youngest id that a message ever had, ms
}

func (c *counts) add(d *counts) {
	for i := range c.Tally {
		c.Tally[i] += d.Tally[i]
	}
	c.Messages += d.Messages
	c.Unfinished += d.Unfinished
	c.Youngest = max(c.Youngest, d.Youngest)
}

func (c *counts) append(b []byte) []byte {
	for _, n := range c.Tally {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	b = binary.BigEndian.AppendUint64(b, uint64(c.Messages))
	b = binary.BigEndian.AppendUint64(b, uint64(c.Unfinished))
	return binary.BigEndian.AppendUint64(b, uint64(c.Youngest))
}

// decodeCounts also reads rows of before they told of the youngest id.
func decodeCounts(b []byte) (c counts, err error) {
	if len(b) != 8*(atStates+2) && len(b) != 8*(atStates+3) {
		return c, fmt.Errorf("spool: decode counts: %d octets", len(b))
	}
	at := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[8*i:])) }
	for i := range c.Tally {
		c.Tally[i] = at(i)
	}
	c.Messages, c.Unfinished = at(atStates), at(atStates+1)
	if len(b) > 8*(atStates+2) {
		c.Youngest = at(atStates + 2)
	}
	return c, nil
}

// ageStep is the width of an age bucket.
const ageStep = 10_000 // ms

// age is a change to the count of one bucket.
type age struct {
	bucket int64
	n      int64
}

// statistics mirrors the rows of counts and ages in memory.
type statistics struct {
	mu   sync.Mutex
	now  counts
	ages map[int64]int64
}

func (st *statistics) apply(d *counts, ages []age) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.now.add(d)
	for _, a := range ages {
		if st.ages[a.bucket] += a.n; st.ages[a.bucket] == 0 {
			delete(st.ages, a.bucket)
		}
	}
}

// load reads the rows.
func (st *statistics) load(p part, r kv.Reader) error {
	b, err := r.Get(keyCounts(p))
	if err == nil {
		st.now, err = decodeCounts(b)
	}
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	return r.Scan(kv.Range{Prefix: p.table(tableAges, 0)}, func(k, v []byte) bool {
		if len(k) == 11 && len(v) == 8 {
			st.ages[int64(binary.BigEndian.Uint64(k[3:]))] = int64(binary.BigEndian.Uint64(v))
		}
		return true
	})
}

// Stats tells what is stored. It reads memory only.
func (s *Spool) Stats() Stats {
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	out := Stats{
		Recipients: make(map[mail.State]int64, atStates),
		Messages:   s.stats.now.Messages,
		Unfinished: s.stats.now.Unfinished,
		LastEvent:  s.feed.lastSynced(),
	}
	for i, name := range stateNames() {
		out.Recipients[name] = s.stats.now.Tally[i]
	}
	oldest := int64(-1)
	for b := range s.stats.ages {
		if oldest < 0 || b < oldest {
			oldest = b
		}
	}
	if oldest >= 0 {
		out.Oldest = millisTime(oldest * ageStep)
	}
	return out
}
