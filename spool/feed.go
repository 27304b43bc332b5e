package spool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"behalf/internal/kv"
	"behalf/mail"
)

// Event numbers are handed out inside the commit functions, which run one
// after the other in the order in which their writes become visible. So when
// a reader sees number n, every smaller number that will ever exist is there
// too: a cursor can never skip an event. Gaps are possible: a function that
// failed, or the rest of a reserved block after a restart.

// seqBlock is how many numbers are reserved at once.
const seqBlock = 256

// feed hands out event numbers and wakes those who wait for events.
type feed struct {
	mu       sync.Mutex
	next     uint64 // next number to hand out
	reserved uint64 // numbers below it are reserved on stable storage
	synced   uint64 // the highest number on stable storage
	changed  chan struct{}
}

// take gives the next number; reserve is not zero when the transaction must
// also raise the reservation to it.
func (f *feed) take() (seq, reserve uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	seq = f.next
	f.next++
	if f.next > f.reserved {
		reserve = f.next + seqBlock
	}
	return seq, reserve
}

func (f *feed) lastTaken() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next - 1
}

func (f *feed) lastSynced() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.synced
}

// publish says that everything up to last is on stable storage.
func (f *feed) publish(last, reserved uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reserved = max(f.reserved, reserved)
	if last <= f.synced {
		return
	}
	f.synced = last
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

func (f *feed) wait() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.changed
}

// load finds where the numbers stand.
func (f *feed) load(p part, r kv.Reader) error {
	b, err := r.Get(keyNext(p))
	switch {
	case errors.Is(err, kv.ErrNotFound):
		f.next = 1
	case err != nil:
		return err
	case len(b) != 8:
		return fmt.Errorf("spool: the next event number has %d octets", len(b))
	default:
		f.next = binary.BigEndian.Uint64(b)
	}
	f.reserved, f.synced = f.next, f.next-1
	return r.Scan(kv.Range{Prefix: p.table(tableFeed, 0), Reverse: true, KeysOnly: true}, func(k, _ []byte) bool {
		f.synced = seqOf(k)
		return false
	})
}

// LastEvent is the highest event number on stable storage.
func (s *Spool) LastEvent() uint64 { return s.feed.lastSynced() }

// Changed is closed when there are events that were not there when it was
// called. Call it before Events, and wait on it when Events gave nothing.
func (s *Spool) Changed() <-chan struct{} { return s.feed.wait() }

// Events gives up to limit events with numbers from from on, in order, and the
// number to go on from. Only events on stable storage are given.
func (s *Spool) Events(ctx context.Context, from uint64, limit int) ([]mail.Event, uint64, error) {
	synced := s.feed.lastSynced()
	if from > synced || limit <= 0 {
		return nil, from, nil
	}
	var out []mail.Event
	var bad error
	err := s.st.View(ctx, func(r kv.Reader) error {
		rng := kv.Range{Prefix: s.p.table(tableFeed, 0), From: keyEvent(s.p, from)}
		return r.Scan(rng, func(k, v []byte) bool {
			if seqOf(k) > synced {
				return false
			}
			var e mail.Event
			if e, bad = s.codec.decodeEvent(k, v); bad != nil {
				return false
			}
			out = append(out, e)
			return len(out) < limit
		})
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return nil, from, fmt.Errorf("spool: read events from %d: %w", from, err)
	}
	if len(out) > 0 {
		from = out[len(out)-1].Seq + 1
	}
	return out, from, nil
}

// Append adds events to the feed and to the timelines of their messages, in
// the transaction w. It is for followers, which use [Spool.Update]; in any
// other transaction the events are published a moment later.
func (s *Spool) Append(w kv.Writer, events ...mail.Event) error {
	t := tx{s: s, w: w}
	for i := range events {
		if err := t.appendEvent(&events[i]); err != nil {
			return err
		}
	}
	select {
	case s.kick <- struct{}{}:
	default:
	}
	return nil
}

func (t *tx) appendEvent(e *mail.Event) error {
	b, err := t.s.encodeEvent(e)
	if err != nil {
		return err
	}
	seq, err := t.event(b)
	if err != nil || e.Message.IsZero() {
		return err
	}
	h, rest, err := t.head(e.Message)
	if errors.Is(err, ErrNotFound) {
		return nil // purged meanwhile: the fact stands in the feed alone
	}
	if err != nil {
		return err
	}
	h.Events = addEvents(h.Events, seq)
	return t.putHead(e.Message, &h, rest)
}

// Update runs fn in a synced transaction, and publishes the events that fn
// appended.
func (s *Spool) Update(ctx context.Context, fn func(w kv.Writer) error) error {
	return s.update(ctx, func(t *tx) error { return fn(t.w) })
}

// Cursor is the key under which a follower of this spool keeps its cursor.
func (s *Spool) Cursor(follower string) []byte { return keyCursor(s.p, follower) }

// Following tells that a follower has handled all events below next. No event
// is purged before every follower that runs has handled it.
func (s *Spool) Following(follower string, next uint64) {
	s.followers.Store(follower, next)
}

// NotFollowing forgets a follower that has ended.
func (s *Spool) NotFollowing(follower string) { s.followers.Delete(follower) }

// handled is the first event number that some follower has still to read.
func (s *Spool) handled() uint64 {
	low := s.feed.lastSynced() + 1
	s.followers.Range(func(_, next any) bool {
		low = min(low, next.(uint64))
		return true
	})
	return low
}
