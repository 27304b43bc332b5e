package spool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
)

// tx is one run of a commit function. Everything in it is thrown away when the
// function runs again.
type tx struct {
	s        *Spool
	w        kv.Writer
	last     uint64 // highest event number when the function ended
	reserved uint64
	delta    counts
	ages     []age
	wrote    []recent // events

	// What is used again and again, for one key or value at a time: stores
	// keep no slice of ours.
	key, value, list []byte
	rec              record
	small            [2]chunk // of the first row, and of the others
	moved            moved

	fn      func(*tx) error // of update
	try     func(kv.Writer) error
	outcome settling // of Settle
	commit  func(kv.Writer) error
	ended   func(error)
}

// keepBuffer is the largest buffer that is used again.
const keepBuffer = 32 << 10

// tx gives a transaction; it goes back by release.
func (s *Spool) tx() *tx {
	t, _ := s.txs.Get().(*tx)
	if t == nil {
		t = &tx{s: s}
		t.try = func(w kv.Writer) error { return t.run(w, t.fn) }
		t.commit, t.ended = t.settleOne, t.settled
	}
	return t
}

func (t *tx) release() {
	t.outcome.reset()
	t.fn = nil
	if cap(t.value)+cap(t.small[0].row)+cap(t.small[1].row) > keepBuffer || cap(t.wrote)+cap(t.ages) > 64 {
		return
	}
	t.reset()
	t.s.txs.Put(t)
}

// reset forgets what a run did.
func (t *tx) reset() {
	clear(t.wrote)
	clear(t.small[0].rs)
	clear(t.small[1].rs)
	clear(t.moved.before)
	clear(t.moved.after)
	t.w, t.last, t.reserved, t.delta, t.rec = nil, 0, 0, counts{}, record{}
	t.ages, t.wrote = t.ages[:0], t.wrote[:0]
}

// update runs fn in a synced transaction; what it did to memory becomes
// effective once it is on stable storage.
func (s *Spool) update(ctx context.Context, fn func(*tx) error) error {
	t := s.tx()
	t.fn = fn
	err := s.st.Update(ctx, t.try)
	if err == nil {
		s.committed(t)
	}
	t.release()
	return err
}

// later is update without waiting: done is called by the committer.
func (s *Spool) later(fn func(*tx) error, done func(error)) {
	t := s.tx()
	s.st.Go(func(w kv.Writer) error { return t.run(w, fn) }, func(err error) {
		if err == nil {
			s.committed(t)
		}
		t.release()
		done(err)
	})
}

func (t *tx) run(w kv.Writer, fn func(*tx) error) error {
	for _, r := range t.wrote { // in a run before this one
		t.s.feed.forget(r.seq)
	}
	t.reset()
	t.w = w
	if err := fn(t); err != nil {
		return err
	}
	if err := t.writeCounts(); err != nil {
		return err
	}
	t.last = t.s.feed.took(t.wrote)
	return nil
}

func (s *Spool) committed(t *tx) {
	s.stats.apply(&t.delta, t.ages)
	s.feed.publish(t.last, t.reserved)
}

// writeCounts adds what the function changed to the rows of counts.
func (t *tx) writeCounts() error {
	if t.delta != (counts{}) {
		var c counts
		t.key = t.s.p.append(t.key[:0], tableCounts)
		b, err := t.w.Get(t.key)
		if err == nil {
			c, err = decodeCounts(b)
		}
		if err != nil && !errors.Is(err, kv.ErrNotFound) {
			return err
		}
		c.add(&t.delta)
		t.value = c.append(t.value[:0])
		if err := t.w.Put(t.key, t.value); err != nil {
			return err
		}
	}
	for _, a := range t.ages {
		if err := t.writeAge(a); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) writeAge(a age) error {
	t.key = appendKeyAge(t.key[:0], t.s.p, a.bucket)
	n := a.n
	b, err := t.w.Get(t.key)
	switch {
	case err == nil && len(b) == 8:
		n += int64(binary.BigEndian.Uint64(b))
	case err != nil && !errors.Is(err, kv.ErrNotFound):
		return err
	}
	if n == 0 {
		return t.w.Delete(t.key)
	}
	t.value = binary.BigEndian.AppendUint64(t.value[:0], uint64(n))
	return t.w.Put(t.key, t.value)
}

// event writes an encoded event under the next number. Nobody changes the
// encoded event any more: it is kept for those who follow.
func (t *tx) event(k kind, encoded []byte) (uint64, error) {
	seq, reserve := t.s.feed.take()
	if reserve > t.reserved {
		t.reserved = reserve
		if err := t.w.Put(keyNext(t.s.p), binary.BigEndian.AppendUint64(nil, reserve)); err != nil {
			return 0, err
		}
	}
	t.wrote = append(t.wrote, recent{seq, k, encoded})
	t.key = appendKeyEvent(t.key[:0], t.s.p, seq)
	return seq, t.w.Put(t.key, encoded)
}

// encodeEvent encodes e without its number, which is in the key.
func encodeEvent(e *mail.Event) ([]byte, error) {
	var r rows
	err := r.event(e)
	return r.b, err
}

// event adds an encoded event.
func (r *rows) event(e *mail.Event) error {
	c := *e
	c.Seq = 0
	if c.At.IsZero() {
		c.At = time.Now()
	}
	if a := c.Attempt; a != nil && (len(a.Reply) > maxReply || a.Failure != nil && len(a.Failure.Reply) > maxReply) {
		cut := *a
		cut.Reply = cutText(cut.Reply)
		cut.Failure = cutFailure(cut.Failure)
		c.Attempt = &cut
	}
	size := len(r.b)
	if r.b == nil {
		r.b = make([]byte, 0, 512)
	}
	r.add(r.rec.appendEvent(r.b, &c))
	if size = len(r.b) - size; size > kv.MaxValue {
		return fits("event "+string(e.Type), size)
	}
	return nil
}

// maxReply bounds a peer's reply in what is stored, so that 64 recipients fit
// into a row.
const maxReply = 2 << 10

func cutText(s string) string {
	if len(s) <= maxReply {
		return s
	}
	return s[:maxReply] + "…"
}

func cutFailure(f *mail.Failure) *mail.Failure {
	if f == nil || len(f.Reply) <= maxReply && len(f.Text) <= maxReply {
		return f
	}
	cut := *f
	cut.Reply, cut.Text = cutText(f.Reply), cutText(f.Text)
	return &cut
}

// head reads the head of a message; rest is its first recipients, encoded.
func (t *tx) head(id mail.ID) (h head, rest []byte, err error) {
	t.key = appendKeyRecipients(t.key[:0], id, 0)
	b, err := t.w.Get(t.key)
	if errors.Is(err, kv.ErrNotFound) {
		return h, nil, ErrNotFound
	}
	if err != nil {
		return h, nil, err
	}
	if h, rest, err = decodeHead(b); err != nil {
		return h, nil, fmt.Errorf("message %s: %w", id, err)
	}
	t.list = append(t.list[:0], h.Events...) // it grows
	h.Events = t.list
	return h, rest, nil
}

func (t *tx) putHead(id mail.ID, h *head, rest []byte) error {
	t.value = append(h.append(t.value[:0]), rest...)
	t.key = appendKeyRecipients(t.key[:0], id, 0)
	return t.w.Put(t.key, t.value)
}

// count adds what a message did to the counts: from the one tally to the other.
func (t *tx) count(h *head, from, to *tally) {
	for i := range from {
		t.delta.Tally[i] += to[i] - from[i]
	}
	t.delta.Unfinished += sign(to.unfinished()) - sign(from.unfinished())
	if n := sign(to.queued()) - sign(from.queued()); n != 0 {
		t.ages = append(t.ages, age{h.Base / ageStep, n})
	}
}

func sign(n int64) int64 {
	if n > 0 {
		return 1
	}
	return 0
}

// setTimer moves the row of the timer index to what h asks for now. A time
// that has gone by is moved to the present, so that no row ever appears below
// the mark that scans start from.
func (t *tx) setTimer(id mail.ID, h *head) error {
	at, what := t.s.nextTimer(h)
	now := time.Now().UnixMilli()
	if h.Timer != 0 {
		if what == h.What && (at == h.Timer || at < h.Timer && h.Timer <= now) {
			return nil
		}
		t.key = appendKeyTimer(t.key[:0], id, h.What.class(), h.Timer)
		if err := t.w.Delete(t.key); err != nil {
			return err
		}
	}
	h.Timer, h.What = 0, 0
	if what == 0 {
		return nil
	}
	h.Timer, h.What = max(at, now-60_000, t.s.marks[what.class()].Load()), what
	t.key = appendKeyTimer(t.key[:0], id, what.class(), h.Timer)
	t.value = append(t.value[:0], byte(what))
	return t.w.PutNew(t.key, t.value) // it is the only one of the message
}

// nextTimer is the next thing that time does to a message.
func (s *Spool) nextTimer(h *head) (at int64, what TimerKind) {
	first := func(t int64, k TimerKind) {
		if what == 0 || t < at {
			at, what = t, k
		}
	}
	if h.Tally.unfinished() == 0 {
		if !h.Gone && s.o.KeepBodies < s.o.KeepEvents {
			return h.Done + s.o.KeepBodies.Milliseconds(), TimerBody
		}
		return h.Done + s.o.KeepEvents.Milliseconds(), TimerPurge
	}
	if h.Expires != 0 {
		first(h.Expires, TimerExpire)
	}
	for _, r := range h.Releases {
		first(r.At, TimerRelease)
	}
	if h.Tally.queued() > 0 && h.Told < len(s.o.Delays) {
		first(h.Base+s.o.Delays[h.Told].Milliseconds(), TimerDelay)
	}
	return at, what
}
