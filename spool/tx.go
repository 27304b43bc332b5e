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
}

// update runs fn in a synced transaction; what it did to memory becomes
// effective once it is on stable storage.
func (s *Spool) update(ctx context.Context, fn func(*tx) error) error {
	var t tx
	err := s.st.Update(ctx, func(w kv.Writer) error { return t.run(s, w, fn) })
	if err == nil {
		s.committed(&t)
	}
	return err
}

// later is update without waiting: done is called by the committer.
func (s *Spool) later(fn func(*tx) error, done func(error)) {
	t := new(tx)
	s.st.Go(func(w kv.Writer) error { return t.run(s, w, fn) }, func(err error) {
		if err == nil {
			s.committed(t)
		}
		done(err)
	})
}

func (t *tx) run(s *Spool, w kv.Writer, fn func(*tx) error) error {
	*t = tx{s: s, w: w, ages: t.ages[:0]}
	if err := fn(t); err != nil {
		return err
	}
	t.last = s.feed.lastTaken()
	return t.writeCounts()
}

func (s *Spool) committed(t *tx) {
	s.stats.apply(&t.delta, t.ages)
	s.feed.publish(t.last, t.reserved)
}

// writeCounts adds what the function changed to the rows of counts.
func (t *tx) writeCounts() error {
	if t.delta != (counts{}) {
		var c counts
		b, err := t.w.Get(keyCounts(t.s.p))
		if err == nil {
			c, err = decodeCounts(b)
		}
		if err != nil && !errors.Is(err, kv.ErrNotFound) {
			return err
		}
		c.add(&t.delta)
		if err := t.w.Put(keyCounts(t.s.p), c.encode()); err != nil {
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
	key := keyAge(t.s.p, a.bucket)
	n := a.n
	b, err := t.w.Get(key)
	switch {
	case err == nil && len(b) == 8:
		n += int64(binary.BigEndian.Uint64(b))
	case err != nil && !errors.Is(err, kv.ErrNotFound):
		return err
	}
	if n == 0 {
		return t.w.Delete(key)
	}
	return t.w.Put(key, binary.BigEndian.AppendUint64(nil, uint64(n)))
}

// event writes an encoded event under the next number.
func (t *tx) event(encoded []byte) (uint64, error) {
	seq, reserve := t.s.feed.take()
	if reserve > t.reserved {
		t.reserved = reserve
		if err := t.w.Put(keyNext(t.s.p), binary.BigEndian.AppendUint64(nil, reserve)); err != nil {
			return 0, err
		}
	}
	return seq, t.w.Put(keyEvent(t.s.p, seq), encoded)
}

// encodeEvent encodes e without its number, which is in the key.
func (s *Spool) encodeEvent(e *mail.Event) ([]byte, error) {
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
	return s.codec.encode("event "+string(e.Type), &c)
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
	b, err := t.w.Get(keyRecipients(id, 0))
	if errors.Is(err, kv.ErrNotFound) {
		return h, nil, ErrNotFound
	}
	if err != nil {
		return h, nil, err
	}
	if h, rest, err = decodeHead(b); err != nil {
		return h, nil, fmt.Errorf("message %s: %w", id, err)
	}
	return h, rest, nil
}

func (t *tx) putHead(id mail.ID, h *head, rest []byte) error {
	b := make([]byte, 0, 96+len(h.Events)+len(rest))
	return t.w.Put(keyRecipients(id, 0), append(h.append(b), rest...))
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
		if err := t.w.Delete(keyTimer(id, h.What.class(), h.Timer)); err != nil {
			return err
		}
	}
	h.Timer, h.What = 0, 0
	if what == 0 {
		return nil
	}
	h.Timer, h.What = max(at, now-60_000, t.s.marks[what.class()].Load()), what
	return t.w.Put(keyTimer(id, what.class(), h.Timer), []byte{byte(what)})
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
