package spool

import (
	"bytes"
	"fmt"
	"slices"
	"sync"

	"behalf/internal/cbor"
	"behalf/mail"
)

// chunk is a row of recipients that is being changed.
type chunk struct {
	id   mail.ID
	k    int
	rs   []mail.Recipient
	row  []byte // what is stored; nil if that is not known any more
	old  []byte // the room of the row before it
	ends []int  // where the list begins, and where each recipient ends
}

// settleChunk applies changes to one chunk. first is the encoded chunk 0,
// which the caller writes with the head.
func (t *tx) settleChunk(id mail.ID, h *head, k int, changes []Change, first []byte, ignored []int) ([]byte, []int, error) {
	last := changes[len(changes)-1].Index
	if changes[0].Index < 0 || last >= h.Total {
		return nil, nil, fmt.Errorf("recipient %d of %d", last, h.Total)
	}
	old := first
	if k > 0 {
		var err error
		t.key = appendKeyRecipients(t.key[:0], id, k)
		if old, err = t.w.Get(t.key); err != nil {
			return nil, nil, err
		}
	}
	c, err := t.chunk(id, k, old)
	if err != nil {
		return nil, nil, err
	}
	var room [8]int
	m := &t.moved
	m.before, m.after = m.before[:0], m.after[:0]
	changed := room[:0]
	for _, ch := range changes {
		i := ch.Index - k*chunkSize
		if i >= len(c.rs) {
			return nil, nil, fmt.Errorf("row %d has %d recipients", k, len(c.rs))
		}
		was := c.rs[i]
		if !h.change(&c.rs[i], ch.Recipient) {
			ignored = append(ignored, ch.Index)
			continue
		}
		if n := len(changed); n == 0 || changed[n-1] != i {
			changed = append(changed, i)
			m.from(&was)
		}
	}
	if len(changed) == 0 {
		t.s.chunks.give(c)
		return first, ignored, nil
	}
	row, err := c.encode(&t.rec, changed)
	if err != nil {
		return nil, nil, err
	}
	h.setRelease(k, c.rs)
	for _, i := range changed {
		m.to(&c.rs[i])
	}
	if err := t.moveDue(c, m); err != nil {
		return nil, nil, err
	}
	t.s.chunks.give(c)
	if k == 0 {
		return row, ignored, nil
	}
	t.key = appendKeyRecipients(t.key[:0], id, k)
	return first, ignored, t.w.Put(t.key, row)
}

// chunk gives the recipients of a row.
func (t *tx) chunk(id mail.ID, k int, row []byte) (*chunk, error) {
	if c := t.s.chunks.take(id, k); c != nil && bytes.Equal(c.row, row) {
		return c, nil
	}
	c := &t.small[min(k, 1)]
	rs, err := t.s.codec.readRecipients(&t.rec, row, c.rs[:0])
	if len(rs) >= keepFrom || err != nil {
		c.rs = nil
		return &chunk{id: id, k: k, rs: rs}, err
	}
	room := c.row
	if room == nil {
		room = c.old
	}
	*c = chunk{id: id, k: k, rs: rs, old: room, ends: c.ends}
	return c, nil
}

// encode makes the row anew, of which some recipients have changed.
func (c *chunk) encode(r *record, changed []int) ([]byte, error) {
	row := c.row
	c.row = nil // until all is well
	*r = record{b: c.old[:0]}
	if row == nil {
		c.encodeAll(r)
	} else {
		c.patch(r, row, changed)
	}
	c.row, c.old = r.written(), row
	return c.row, fits("recipients", len(c.row))
}

func (c *chunk) encodeAll(r *record) {
	r.put(cbor.Array, uint64(len(c.rs)))
	c.ends = append(slices.Grow(c.ends[:0], len(c.rs)+1), len(r.b))
	for i := range c.rs {
		shapeRecipient(r, &c.rs[i])
		c.ends = append(c.ends, len(r.b))
	}
}

// patch copies from row whatever has not changed.
func (c *chunk) patch(r *record, row []byte, changed []int) {
	copied, grown := 0, 0
	for i := range c.rs {
		end := c.ends[i+1]
		if len(changed) > 0 && changed[0] == i {
			changed = changed[1:]
			r.b = append(r.b, row[copied:c.ends[i]-grown]...)
			shapeRecipient(r, &c.rs[i])
			grown, copied = len(r.b)-end, end
		}
		c.ends[i+1] = end + grown
	}
	r.b = append(r.b, row[copied:]...)
}

// moved are places in the due index that some recipients left and took.
type moved struct{ before, after []due }

func (m *moved) from(r *mail.Recipient) {
	if r.State == mail.Queued {
		m.before = append(m.before, due{r.Lane, millis(r.Next)})
	}
}

func (m *moved) to(r *mail.Recipient) {
	if r.State == mail.Queued {
		m.after = append(m.after, due{r.Lane, millis(r.Next)})
	}
}

// moveDue brings the due index to where the recipients of c stand now. Others
// of the chunk may stand in the same place.
func (t *tx) moveDue(c *chunk, m *moved) error {
	for i, d := range m.before {
		if slices.Contains(m.before[:i], d) || c.standing(d) > 0 {
			continue
		}
		t.key = appendKeyDue(t.key[:0], c.id, d.lane, d.next, c.k)
		if err := t.w.Delete(t.key); err != nil {
			return err
		}
	}
	for i, d := range m.after {
		if slices.Contains(m.after[:i], d) || slices.Contains(m.before, d) {
			continue
		}
		t.key = appendKeyDue(t.key[:0], c.id, d.lane, d.next, c.k)
		if err := t.w.Put(t.key, nil); err != nil { // again, where others stand there
			return err
		}
	}
	return nil
}

// standing counts the recipients in one place of the due index.
func (c *chunk) standing(d due) (n int) {
	for i := range c.rs {
		r := &c.rs[i]
		if r.State == mail.Queued && millis(r.Next) == d.next && r.Lane == d.lane {
			n++
		}
	}
	return n
}

// The bounds of the chunks that are kept, and from how many recipients on that
// pays.
const (
	keptChunks = 32
	keptRow    = 32 << 10
	keepFrom   = 8
)

// chunks are rows that were written a moment ago, decoded: of a message with
// many recipients, outcome after outcome rewrites the same ones. A row is used
// only if it is octet for octet what the store has. Who takes one owns it.
type chunks struct {
	mu   sync.Mutex
	kept [keptChunks]*chunk
	next int
}

func (cs *chunks) take(id mail.ID, k int) *chunk {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for i, c := range cs.kept {
		if c != nil && c.k == k && c.id == id {
			cs.kept[i] = nil
			return c
		}
	}
	return nil
}

func (cs *chunks) give(c *chunk) {
	if len(c.rs) < keepFrom || c.row == nil || cap(c.row)+cap(c.old) > 2*keptRow {
		return
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.kept[cs.next] = c
	cs.next = (cs.next + 1) % keptChunks
}
