package spool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"behalf/internal/blob"
	"behalf/internal/kv"
	"behalf/mail"
)

// Put accepts a message: it writes the body, whose sync begins, and then
// everything else in one transaction, extra's writes included, which needs the
// body ([kv.Writer] Needs): both are synced at once. When it returns nil the
// message would survive a power cut: this is the instant of acceptance. On an
// error nothing was accepted and the draft is still the caller's, except when
// the store has failed ([kv.Store] Failed): then the outcome is unknown. A body
// that cannot be written is an error; one that cannot be synced, after its
// transaction was committed, fails the store.
//
// Put fills in what is missing (state, lane and first time of a recipient,
// from the first wish), brings times to the millisecond, and from then on owns
// m and rs. extra runs inside the transaction, before the spool's own writes;
// it may run again, and its error is returned as it is. More events of the
// message follow that of its acceptance.
func (s *Spool) Put(ctx context.Context, d *Draft, m *mail.Message, rs []mail.Recipient, acc *mail.Acceptance, extra func(kv.Writer) error, more ...mail.Event) (*Stored, error) {
	p, err := s.prepare(m, rs, acc, more)
	if err != nil {
		return nil, err
	}
	defer s.release(p)
	s.coming.add(m.ID)
	defer s.coming.remove(m.ID)
	ref, body, err := s.bodies.Begin(ctx, blob.Owner(m.ID), d)
	if err != nil {
		return nil, fmt.Errorf("spool: store body: %w", err)
	}
	p.head.Body, p.body, p.extra = ref, body, extra
	p.known = true
	if err = s.update(ctx, p.work); err != nil {
		if p.known || errors.Is(err, kv.ErrTooBig) {
			s.bodies.Delete(blob.Owner(m.ID), ref)
		}
		return nil, fmt.Errorf("spool: put %s: %w", m.ID, err)
	}
	st := &Stored{Message: m, Recipients: rs, Body: ref}
	if b, ok := d.Bytes(); ok {
		st.Young, st.buf = b, d.hand()
	} else {
		d.Discard()
	}
	return st, nil
}

// Release gives the memory of a young body back; Young must not be used after.
// It may be called again.
func (st *Stored) Release() {
	st.buf.put()
	st.buf, st.Young = nil, nil
}

// Held is how many octets of memory a young body keeps, which is what its
// buffer has room for.
func (st *Stored) Held() int64 {
	if st.buf == nil {
		return int64(len(st.Young))
	}
	return int64(cap(st.buf.b))
}

// prepared is a message ready to be written, but for what only the
// transaction knows.
type prepared struct {
	id     mail.ID
	head   head
	chunks rows
	facts  rows // the message; rows that are used again as soon as they are stored
	due    rows // keys
	events rows
	told   []kind // of events

	body  blob.Pending
	extra func(kv.Writer) error
	known bool            // that nothing was committed, should there be an error
	work  func(*tx) error // write, bound once
}

// write is the transaction of acceptance.
func (p *prepared) write(t *tx) error {
	p.known = true
	if p.body != nil {
		if err := p.body.Err(); err != nil { // it fails this message alone
			return fmt.Errorf("store body: %w", err)
		}
		t.w.Needs(p.body)
	}
	if p.extra != nil {
		if err := p.extra(t.w); err != nil {
			return err
		}
	}
	if err := t.put(p); err != nil {
		return err
	}
	p.known = false
	return nil
}

// release keeps the room of p for the next message: the store has copies.
func (s *Spool) release(p *prepared) {
	p.chunks.reset()
	p.facts.reset()
	p.due.reset()
	p.head, p.events, p.told = head{}, rows{}, p.told[:0]
	p.body, p.extra = nil, nil
	s.prepares.Put(p)
}

func (s *Spool) prepare(m *mail.Message, rs []mail.Recipient, acc *mail.Acceptance, more []mail.Event) (*prepared, error) {
	if err := s.check(m, rs); err != nil {
		return nil, err
	}
	for _, t := range []*time.Time{&m.Accepted, &m.NotBefore, &m.Expires} {
		if !t.IsZero() {
			*t = t.Truncate(time.Millisecond).UTC()
		}
	}
	base := m.Accepted
	if m.NotBefore.After(base) {
		base = m.NotBefore
	}
	p, _ := s.prepares.Get().(*prepared)
	if p == nil {
		p = new(prepared)
		p.work = p.write
	}
	p.id, p.head = m.ID, head{Total: len(rs), Base: millis(base), Expires: millis(m.Expires)}
	var err error
	for k := 0; k*chunkSize < len(rs); k++ {
		if err = s.prepareChunk(p, m, base, rs[k*chunkSize:min(len(rs), (k+1)*chunkSize)], k); err != nil {
			return nil, err
		}
	}
	if p.head.Tally.unfinished() == 0 {
		p.head.Done = millis(m.Accepted)
	}
	p.facts.add(p.facts.rec.appendMessage(p.facts.b, m))
	if err = fits("message", len(p.facts.b)); err != nil {
		return nil, err
	}
	accepted := mail.Event{At: m.Accepted, Type: mail.EventAccepted, Message: m.ID, Accepted: acc}
	if err := p.tell(&accepted); err != nil {
		return nil, err
	}
	for _, events := range [...][]mail.Event{notQueued(m, rs), more} {
		for i := range events {
			if err := p.tell(&events[i]); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// tell adds an event.
func (p *prepared) tell(e *mail.Event) error {
	p.told = append(p.told, kindOf(e))
	return p.events.event(e)
}

// notQueued tells of recipients that were accepted and are not on their way:
// one event for those that share a state and its reason.
func notQueued(m *mail.Message, rs []mail.Recipient) []mail.Event {
	var events []mail.Event
	for i := range rs {
		r := &rs[i]
		if r.State == mail.Queued {
			continue
		}
		e := mail.Event{At: m.Accepted, Message: m.ID, Reason: r.Reason, Recipients: []int{i}}
		switch r.State {
		case mail.Held:
			e.Type, e.Next = mail.EventHeld, r.Next
		case mail.Suppressed:
			e.Type = mail.EventSuppressed
		case mail.Discarded:
			e.Type = mail.EventDiscarded
		default:
			continue
		}
		same := func(o mail.Event) bool { return o.Type == e.Type && o.Reason == e.Reason && o.Next.Equal(e.Next) }
		if k := slices.IndexFunc(events, same); k >= 0 {
			events[k].Recipients = append(events[k].Recipients, i)
		} else {
			events = append(events, e)
		}
	}
	return events
}

func (s *Spool) check(m *mail.Message, rs []mail.Recipient) error {
	switch {
	case m.ID.Partition() != uint16(s.p):
		return fmt.Errorf("spool: put %s: it belongs to partition %d, not %d", m.ID, m.ID.Partition(), s.p)
	case m.ID.Tenant() != m.Tenant:
		return fmt.Errorf("spool: put %s: the id is of tenant %d, the message of %d", m.ID, m.ID.Tenant(), m.Tenant)
	case len(rs) == 0 || len(rs) > MaxRecipients:
		return fmt.Errorf("spool: put %s: %d recipients; want 1 to %d", m.ID, len(rs), MaxRecipients)
	case m.Accepted.IsZero():
		return fmt.Errorf("spool: put %s: no time of acceptance", m.ID)
	}
	return nil
}

func (s *Spool) prepareChunk(p *prepared, m *mail.Message, base time.Time, rs []mail.Recipient, k int) error {
	for i := range rs {
		r := &rs[i]
		if r.State == "" {
			r.State = mail.Queued
		}
		if r.Lane == "" && r.Wish < len(m.Wishes) {
			r.Lane = mail.LaneFor(m.Wishes[r.Wish].Upstream, r.Address.Domain, m.Stream)
		}
		switch {
		case r.State == mail.Queued && r.Next.IsZero():
			r.Next = base
		case r.State.Final() && r.Done.IsZero():
			r.Done = m.Accepted
		}
		if err := normal(r); err != nil {
			return fmt.Errorf("spool: put %s: recipient %d: %w", m.ID, k*chunkSize+i, err)
		}
		p.head.Tally.add(r, 1)
	}
	var room [8]due
	for _, d := range dueOf(rs, room[:0]) {
		p.due.add(appendKeyDue(p.due.b, m.ID, d.lane, d.next, k))
	}
	p.head.setRelease(k, rs)
	p.chunks.add(p.chunks.rec.appendRecipients(p.chunks.b, rs))
	return fits("recipients", len(p.chunks.at(k)))
}

// normal brings a recipient into the form that is stored, or says why it
// cannot be.
func normal(r *mail.Recipient) error {
	if placeOf(r) < 0 {
		return fmt.Errorf("no such state %q", r.State)
	}
	if r.State == mail.Queued && (r.Lane == "" || len(r.Lane) > maxLane || strings.IndexByte(string(r.Lane), 0) >= 0) {
		return fmt.Errorf("bad lane %q", r.Lane)
	}
	for _, t := range []*time.Time{&r.Next, &r.Trouble, &r.Done, &r.NotBefore} {
		if !t.IsZero() {
			*t = t.Truncate(time.Millisecond).UTC()
		}
	}
	r.Last = cutFailure(r.Last)
	return nil
}

// put writes a prepared message.
func (t *tx) put(p *prepared) error {
	if err := t.unused(p.id); err != nil {
		return err
	}
	h := p.head
	h.Events = t.list[:0]
	for i, k := range p.told {
		seq, err := t.event(k, p.events.at(i))
		if err != nil {
			return err
		}
		h.Events = addEvent(h.Events, seq)
	}
	t.list = h.Events
	if err := t.setTimer(p.id, &h); err != nil {
		return err
	}
	if err := t.putHead(p.id, &h, p.chunks.at(0)); err != nil {
		return err
	}
	t.key = appendKeyMessage(t.key[:0], p.id)
	if err := t.w.PutNew(t.key, p.facts.at(0)); err != nil {
		return err
	}
	for k := 1; k < p.chunks.len(); k++ {
		t.key = appendKeyRecipients(t.key[:0], p.id, k)
		if err := t.w.Put(t.key, p.chunks.at(k)); err != nil {
			return err
		}
	}
	for i := range p.due.len() {
		if err := t.w.PutNew(p.due.at(i), nil); err != nil {
			return err
		}
	}
	t.delta.Messages++
	t.delta.Youngest = max(t.delta.Youngest, p.id.Time().UnixMilli())
	t.count(&h, &tally{}, &h.Tally)
	return nil
}

// unused fails if a message has the id.
func (t *tx) unused(id mail.ID) error {
	if t.s.fresh.first(id) {
		return nil
	}
	t.key = appendKeyMessage(t.key[:0], id)
	switch _, err := t.w.Get(t.key); {
	case err == nil:
		return errors.New("a message with this id exists")
	case !errors.Is(err, kv.ErrNotFound):
		return err
	}
	return nil
}

// due is a place in the due index, within one chunk of one message.
type due struct {
	lane mail.Lane
	next int64
}

// dueOf appends to out where the recipients of a chunk stand in the due index.
func dueOf(rs []mail.Recipient, out []due) []due {
next:
	for i := range rs {
		if rs[i].State != mail.Queued {
			continue
		}
		d := due{rs[i].Lane, millis(rs[i].Next)}
		for _, o := range out {
			if o == d {
				continue next
			}
		}
		out = append(out, d)
	}
	return out
}

// setRelease notes when the first held recipient of chunk k frees itself.
func (h *head) setRelease(k int, rs []mail.Recipient) {
	var first int64
	for i := range rs {
		if at := millis(rs[i].Next); rs[i].State == mail.Held && at != 0 && (first == 0 || at < first) {
			first = at
		}
	}
	for i := range h.Releases {
		if h.Releases[i].Chunk == k {
			if h.Releases[i].At = first; first == 0 {
				h.Releases = append(h.Releases[:i], h.Releases[i+1:]...)
			}
			return
		}
	}
	if first != 0 {
		h.Releases = append(h.Releases, release{Chunk: k, At: first})
	}
}
