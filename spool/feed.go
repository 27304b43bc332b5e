package spool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
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
	recents  recents
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

// took keeps the events that a function wrote, which has come to its end, and
// gives the highest number so far.
func (f *feed) took(wrote []recent) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range wrote {
		f.recents.keep(r)
	}
	return f.next - 1
}

// forget drops events from memory: they are read from the store again, if they
// are there.
func (f *feed) forget(seqs ...uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, seq := range seqs {
		f.recents.drop(seq)
	}
}

// recent appends to out the events from number from on that are on stable
// storage and in memory, up to the first that is not, at most limit. synced is
// the highest number on stable storage.
func (f *feed) recent(from uint64, limit int, out []recent) (_ []recent, synced uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ; from <= f.synced && len(out) < limit; from++ {
		r, ok := f.recents.get(from)
		if !ok {
			break
		}
		out = append(out, r)
	}
	return out, f.synced
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
	return s.EventsOf(ctx, Choice{}, from, limit)
}

// Choice is which events somebody is given; the zero value is all.
type Choice struct {
	Types []mail.EventType // none means all
	// Asked leaves out deliveries of which nobody asked to be told, which nearly
	// all are.
	Asked bool
}

func (c *Choice) takes(k kind) bool {
	return (len(c.Types) == 0 || slices.Contains(c.Types, k.typ)) && (!c.Asked || k.success || k.typ != mail.EventDelivered)
}

// EventsOf is Events for a choice of them; up to limit are looked at. The
// events of the last moments are read from memory.
func (s *Spool) EventsOf(ctx context.Context, choice Choice, from uint64, limit int) ([]mail.Event, uint64, error) {
	if limit <= 0 {
		return nil, from, nil
	}
	p := eventPage{s: s, choice: choice, next: from}
	var room [64]recent
	found, synced := s.feed.recent(from, limit, room[:0])
	var err error
	for _, e := range found {
		if err = p.takeRecent(e); err != nil {
			break
		}
	}
	if err == nil && len(found) < limit && p.next <= synced {
		err = p.read(ctx, synced, limit-len(found))
	}
	if err != nil {
		return nil, from, fmt.Errorf("spool: read events from %d: %w", from, err)
	}
	return p.events, p.next, nil
}

// eventPage gathers events.
type eventPage struct {
	s      *Spool
	choice Choice
	events []mail.Event
	next   uint64
}

// read goes on in the store, up to the number synced.
func (p *eventPage) read(ctx context.Context, synced uint64, limit int) error {
	var bad error
	err := p.s.st.View(ctx, func(r kv.Reader) error {
		rng := kv.Range{Prefix: p.s.p.table(tableFeed, 0), From: keyEvent(p.s.p, p.next)}
		return r.Scan(rng, func(k, v []byte) bool {
			if seqOf(k) > synced {
				return false
			}
			bad = p.take(seqOf(k), v)
			limit--
			return bad == nil && limit > 0
		})
	})
	return errors.Join(err, bad)
}

// take takes an event of which only the row is known.
func (p *eventPage) take(seq uint64, value []byte) error {
	if len(p.choice.Types) > 0 {
		if e, ok := peekEvent(value); ok { // it does not tell whether somebody asked
			return p.takeRecent(recent{seq, kind{e.Type, true}, value})
		}
	}
	e, err := p.s.codec.event(seq, value)
	if err != nil {
		return err
	}
	p.add(e)
	return nil
}

// takeRecent reads the row only if such events are chosen.
func (p *eventPage) takeRecent(r recent) error {
	if !p.choice.takes(r.kind) {
		p.next = r.seq + 1
		return nil
	}
	e, err := p.s.codec.event(r.seq, r.value)
	if err != nil {
		return err
	}
	p.add(e)
	return nil
}

func (p *eventPage) add(e mail.Event) {
	if p.choice.takes(kindOf(&e)) {
		p.events = append(p.events, e)
	}
	p.next = e.Seq + 1
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
	b, err := encodeEvent(e)
	if err != nil {
		return err
	}
	seq, err := t.event(kindOf(e), b)
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
	h.Events = addEvent(h.Events, seq)
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
