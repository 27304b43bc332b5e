package spool

import (
	"context"
	"errors"
	"fmt"

	"behalf/internal/blob"
	"behalf/internal/kv"
	"behalf/mail"
)

// ErrBusy is returned when a message cannot be purged yet: a recipient is not
// final, or a follower has still to read of it.
var ErrBusy = errors.New("spool: the message is still needed")

// The bounds of a transaction that purges.
const (
	groupPurge  = 32
	groupBodies = 128
)

// DropBody gives up the bodies of finished messages; their facts stay. It
// joins commits that others wait for. Messages that are gone are passed over,
// and so are those that cannot be dropped: the error tells of them, by ErrBusy
// of those that are unfinished.
func (s *Spool) DropBody(ctx context.Context, ids []mail.ID) error {
	return s.dropAll(ctx, ids, groupBodies, (*tx).dropBody).all()
}

// Purge deletes finished messages with all that is known of them, in the same
// manner.
func (s *Spool) Purge(ctx context.Context, ids []mail.ID) error {
	return s.dropAll(ctx, ids, groupPurge, (*tx).purge).all()
}

// body is what is to be deleted once the transaction is through.
type body struct {
	owner mail.ID
	ref   blob.Ref
}

// dropped is what could not be dropped.
type dropped struct {
	busy   error // still needed
	failed error // in trouble that is their own
	ended  error // the store's trouble, or ctx ended: nothing behind it was tried
}

func (d dropped) all() error { return errors.Join(d.busy, d.failed, d.ended) }

func (s *Spool) dropAll(ctx context.Context, ids []mail.ID, size int, one func(*tx, mail.ID) (body, error)) (d dropped) {
	for len(ids) > 0 && d.ended == nil {
		n := min(size, len(ids))
		s.dropSome(ctx, ids[:n], one, &d)
		ids = ids[n:]
	}
	return d
}

// dropSome drops a group in one transaction. One that fails is halved, down to
// the messages whose fault it is: they must not keep the others for ever.
func (s *Spool) dropSome(ctx context.Context, ids []mail.ID, one func(*tx, mail.ID) (body, error), d *dropped) {
	dead, busy, err := s.dropGroup(ctx, ids, one)
	switch {
	case err == nil:
		d.busy = errors.Join(d.busy, busy)
		for _, b := range dead {
			if err := s.bodies.Delete(blob.Owner(b.owner), b.ref); err != nil {
				d.failed = errors.Join(d.failed, fmt.Errorf("spool: delete body of %s: %w", b.owner, err))
			}
		}
	case ctx.Err() != nil || errors.Is(err, kv.ErrClosed) || s.broken():
		d.ended = err
	case len(ids) == 1:
		d.failed = errors.Join(d.failed, fmt.Errorf("spool: drop %s: %w", ids[0], err))
	default:
		half := len(ids) / 2
		if s.dropSome(ctx, ids[:half], one, d); d.ended == nil {
			s.dropSome(ctx, ids[half:], one, d)
		}
	}
}

// broken reports whether the store has failed.
func (s *Spool) broken() bool {
	select {
	case <-s.st.Failed():
		return true
	default:
		return false
	}
}

func (s *Spool) dropGroup(ctx context.Context, ids []mail.ID, one func(*tx, mail.ID) (body, error)) (dead []body, busy, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	done := make(chan error, 1)
	s.later(func(t *tx) error {
		dead, busy = dead[:0], nil
		for _, id := range ids {
			b, err := one(t, id)
			switch {
			case errors.Is(err, ErrNotFound):
			case errors.Is(err, ErrBusy):
				busy = errors.Join(busy, fmt.Errorf("message %s: %w", id, err))
			case err != nil:
				return err
			case b.ref != (blob.Ref{}):
				dead = append(dead, b)
			}
		}
		return nil
	}, func(err error) { done <- err })
	err = <-done
	return dead, busy, err
}

func (t *tx) dropBody(id mail.ID) (body, error) {
	h, rest, err := t.head(id)
	switch {
	case err != nil:
		return body{}, err
	case h.Tally.unfinished() > 0:
		return body{}, ErrBusy
	case h.Gone:
		return body{}, nil
	}
	h.Gone = true
	if err := t.setTimer(id, &h); err != nil {
		return body{}, err
	}
	return body{id, h.Body}, t.putHead(id, &h, rest)
}

func (t *tx) purge(id mail.ID) (body, error) {
	h, _, err := t.head(id)
	if err != nil {
		return body{}, err
	}
	events := eventNumbers(h.Events)
	if h.Tally.unfinished() > 0 || len(events) > 0 && events[len(events)-1] >= t.s.handled() {
		return body{}, ErrBusy
	}
	keys := [][]byte{keyMessage(id)}
	for k := range h.chunks() {
		keys = append(keys, keyRecipients(id, k))
	}
	if h.Timer != 0 {
		keys = append(keys, keyTimer(id, h.What.class(), h.Timer))
	}
	for _, seq := range events {
		keys = append(keys, keyEvent(t.s.p, seq))
	}
	for _, key := range keys {
		if err := t.w.Delete(key); err != nil {
			return body{}, err
		}
	}
	t.s.feed.forget(events...)
	t.delta.Messages--
	t.count(&h, &h.Tally, &tally{})
	if h.Gone {
		return body{}, nil
	}
	return body{id, h.Body}, nil
}

// sweepFeed deletes events that no message leads to: those dropped from the
// middle of a long story, and those that came after the purge. It looks at
// every event once, when it has been kept long enough, and goes on from a
// persisted mark; done reports that it has come to younger ones.
func (s *Spool) sweepFeed(ctx context.Context, before int64) (done bool, err error) {
	var dead [][]byte
	next := uint64(s.feedMark.Load())
	from := next
	var bad error
	err = s.st.View(ctx, func(r kv.Reader) error {
		dead, next, done, bad = nil, from, true, nil
		n := 0
		limit := s.handled()
		err := r.Scan(kv.Range{Prefix: s.p.table(tableFeed, 0), From: keyEvent(s.p, from)}, func(k, v []byte) bool {
			e, ok := peekEvent(v)
			if !ok {
				e, bad = s.codec.decodeEvent(k, v)
			}
			if e.Seq = seqOf(k); bad != nil || millis(e.At) >= before || e.Seq >= limit {
				return false
			}
			if n++; n > sweepRows {
				done = false
				return false
			}
			var keep bool
			if keep, bad = s.leadsTo(r, &e); bad != nil {
				return false
			}
			if !keep {
				dead = append(dead, keyEvent(s.p, e.Seq))
			}
			next = e.Seq + 1
			return true
		})
		return errors.Join(err, bad)
	})
	if err != nil || next == from {
		return true, err
	}
	ended := make(chan error, 1)
	s.later(func(t *tx) error {
		for _, key := range dead {
			if err := t.w.Delete(key); err != nil {
				return err
			}
			s.feed.forget(seqOf(key))
		}
		return putMark(s.p, t.w, "f", int64(next))
	}, func(err error) { ended <- err })
	if err = <-ended; err == nil {
		s.feedMark.Store(int64(next))
	}
	return done, err
}

// sweepRows is how many events one transaction of the sweep looks at.
const sweepRows = 512

// leadsTo reports whether the message of e keeps e in its timeline, and so
// will delete it when it goes.
func (s *Spool) leadsTo(r kv.Reader, e *mail.Event) (bool, error) {
	if e.Message.IsZero() {
		return false, nil
	}
	h, _, err := s.head(r, e.Message)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if errors.Is(err, errHead) {
		return true, nil // nobody knows; the sweep goes on
	}
	if err != nil {
		return false, err
	}
	for _, seq := range eventNumbers(h.Events) {
		if seq == e.Seq {
			return true, nil
		}
	}
	return false, nil
}
