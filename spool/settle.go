package spool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
)

// Settle writes an outcome with the next batch, at most a few milliseconds
// later, and calls done from the committer: done must not block. A final state
// never changes, but for delivered to bounced: changes that would do so are
// left out, and the events that tell of nothing else with them.
//
// ErrNotFound means that the message was purged. An outcome that one
// transaction cannot take is written in several, and a [TooLargeError] means
// that some or all of it could not be written even so. Any other error means
// that nothing was written, or that the store has failed.
//
// What o refers to is the spool's until done is called, and the caller's again
// from then on.
func (s *Spool) Settle(o Outcome, done func(error)) {
	t := s.tx()
	t.outcome.whole, t.outcome.done = o, done
	if err := s.prepareOutcome(&t.outcome); err != nil {
		t.settled(err)
		return
	}
	s.st.Go(t.commit, t.ended)
}

// settleOne writes the outcome that t was made for.
func (t *tx) settleOne(w kv.Writer) error {
	return t.run(w, func(t *tx) error { return t.settle(&t.outcome) })
}

// settled ends it.
func (t *tx) settled(err error) {
	s, o, done := t.s, t.outcome.whole, t.outcome.done
	if err == nil {
		s.committed(t)
	}
	t.release()
	if errors.Is(err, kv.ErrTooBig) {
		// The committer must not wait for itself. Whoever waits for done
		// waits for this goroutine.
		go func() { done(s.SettleNow(context.Background(), []Outcome{o})) }()
		return
	}
	done(err)
}

// The bounds of a transaction of SettleNow. They keep it short; what keeps it
// within what the store can take at once is that it is halved when it is not.
const (
	groupOutcomes = 512
	groupChanges  = 512
)

// SettleNow writes outcomes and waits until they are on stable storage: one
// transaction for each group of them, in order. Messages that were purged are
// passed over, and what is too large for the store: the error tells of them,
// by ErrNotFound and a [TooLargeError]. After any other error, the outcomes of
// that group and those behind it were not written.
func (s *Spool) SettleNow(ctx context.Context, os []Outcome) error {
	var sr settler
	for len(os) > 0 {
		n, changes := 0, 0
		for n < len(os) && n < groupOutcomes && (n == 0 || changes+len(os[n].Changes) <= groupChanges) {
			changes += len(os[n].Changes)
			n++
		}
		if err := sr.group(ctx, s, os[:n]); err != nil {
			return err
		}
		os = os[n:]
	}
	return sr.told()
}

// settling is an outcome made ready outside of the committer.
type settling struct {
	whole   Outcome // as it was given
	done    func(error)
	changes []Change // by index
	events  []mail.Event
	encoded rows // the events
}

// The bounds of what is kept of an outcome for the next: nearly all are of one
// recipient.
const (
	keptChanges = 8
	keptEvents  = 2
)

// reset forgets the outcome and keeps its room, if it is not much. The encoded
// events are the feed's.
func (p *settling) reset() {
	clear(p.changes)
	clear(p.events)
	changes, events := p.changes[:0], p.events[:0]
	*p = settling{}
	if cap(changes) <= keptChanges {
		p.changes = changes
	}
	if cap(events) <= keptEvents {
		p.events = events
	}
}

// prepareOutcome makes p.whole ready.
func (s *Spool) prepareOutcome(p *settling) error {
	o := &p.whole
	if o.ID.Partition() != uint16(s.p) {
		return fmt.Errorf("spool: settle %s: it belongs to partition %d, not %d: %w", o.ID, o.ID.Partition(), s.p, ErrNotFound)
	}
	p.changes, p.events = append(p.changes[:0], o.Changes...), append(p.events[:0], o.Events...)
	for i := range p.changes {
		c := &p.changes[i]
		r := &c.Recipient
		if r.State.Final() && r.Done.IsZero() {
			r.Done = time.Now()
		}
		if r.State == mail.Queued && r.Next.IsZero() {
			r.Next = time.Now()
		}
		if err := normal(r); err != nil {
			return fmt.Errorf("spool: settle %s: recipient %d: %w", o.ID, c.Index, err)
		}
	}
	slices.SortStableFunc(p.changes, func(a, b Change) int { return cmp.Compare(a.Index, b.Index) })
	for i := range p.events {
		p.events[i].Message = o.ID
		if err := p.encoded.event(&p.events[i]); err != nil {
			return fmt.Errorf("spool: settle %s: %w", o.ID, err)
		}
	}
	return nil
}

// allowed is the rule that nothing final changes. What may happen to the
// others is decided by who settles: an outcome beats a hold that came later.
func allowed(from, to mail.State) bool {
	if from.Final() {
		return from == mail.Delivered && to == mail.Bounced
	}
	return to != mail.Bounced
}

// settle applies one outcome. It writes nothing before it knows that the
// message is there.
func (t *tx) settle(p *settling) error {
	id := p.whole.ID
	h, first, err := t.head(id)
	if err != nil {
		return fmt.Errorf("spool: settle %s: %w", id, err)
	}
	before := h.Tally
	var ignored []int
	for rest := p.changes; len(rest) > 0; {
		k := rest[0].Index / chunkSize
		n := 1
		for n < len(rest) && rest[n].Index/chunkSize == k {
			n++
		}
		if first, ignored, err = t.settleChunk(id, &h, k, rest[:n], first, ignored); err != nil {
			return fmt.Errorf("spool: settle %s: %w", id, err)
		}
		rest = rest[n:]
	}
	wrote, err := t.settleEvents(p, &h, ignored)
	if err != nil {
		return err
	}
	if !wrote && len(ignored) == len(p.changes) {
		return nil
	}
	if err := t.setTimer(id, &h); err != nil {
		return err
	}
	t.count(&h, &before, &h.Tally)
	return t.putHead(id, &h, first)
}

// change makes r what it shall be, if it may; who it is stays as accepted.
func (h *head) change(r *mail.Recipient, to mail.Recipient) bool {
	if !allowed(r.State, to.State) {
		return false
	}
	to.Address, to.ORcpt, to.Notify = r.Address, r.ORcpt, r.Notify
	h.Tally.add(r, -1)
	h.Tally.add(&to, 1)
	if to.State.Final() && !r.State.Final() {
		h.Done = max(h.Done, millis(to.Done))
	}
	*r = to
	return true
}

// settleEvents writes the events that tell of something that happened.
func (t *tx) settleEvents(p *settling, h *head, ignored []int) (wrote bool, err error) {
	for i := range p.events {
		e, b := &p.events[i], p.encoded.at(i)
		if len(ignored) > 0 {
			part := *e
			if e = &part; !stillTrue(e, p.changes, ignored) {
				continue
			}
			if b, err = encodeEvent(e); err != nil {
				return wrote, err
			}
		}
		seq, err := t.event(kindOf(e), b)
		if err != nil {
			return wrote, err
		}
		wrote = true
		h.Events = addEvent(h.Events, seq)
		if e.Type == mail.EventDelayed {
			h.told(e, t.s.o.Delays)
		}
	}
	return wrote, nil
}

// stillTrue leaves those recipients out of e whose change was ignored, and
// reports whether any is left.
func stillTrue(e *mail.Event, changes []Change, ignored []int) bool {
	about := e.Recipients
	if len(about) == 0 {
		for _, c := range changes {
			about = append(about, c.Index)
		}
	}
	var left []int
	for _, i := range about {
		if !slices.Contains(ignored, i) {
			left = append(left, i)
		}
	}
	e.Recipients = left
	return len(left) > 0
}

// told notes that people know of the delay, so that after an outage they hear
// of it once.
func (h *head) told(e *mail.Event, delays []time.Duration) {
	h.Told++
	at := millis(e.At)
	if at == 0 {
		at = time.Now().UnixMilli()
	}
	for h.Told < len(delays) && h.Base+delays[h.Told].Milliseconds() <= at {
		h.Told++
	}
}
