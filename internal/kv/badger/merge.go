package badger

import (
	"bytes"

	badgerdb "github.com/dgraph-io/badger/v4"

	"behalf/internal/kv"
)

// merge walks a range of a snapshot: in order of keys, and of those that have
// the same key it sees the newest alone.
type merge struct {
	r       kv.Range
	cursors [2]cursor
	n       int // cursors in use
	below   belowCursor
	passed  bool // the row that below stands on was given
	row     kv.Row
}

func newMerge(p *snapshot, r kv.Range) *merge {
	m := &merge{r: r}
	start := kv.First(r)
	if r.Reverse {
		start = kv.Last(r)
	}
	for _, t := range p.tables {
		if t != nil {
			m.cursors[m.n] = cursor{table: t, commit: p.commit, reverse: r.Reverse}
			m.cursors[m.n].seek(start)
			m.n++
		}
	}
	m.below = belowCursor{it: p.below.txn.NewIterator(badgerdb.IteratorOptions{Reverse: r.Reverse, Prefix: r.Prefix})} // values are in the tree: nothing to prefetch
	m.below.it.Seek(start)
	m.below.settle()
	return m
}

func (m *merge) close() { m.below.it.Close() }

// next gives the next row that lives, valid until the call after; nil: there is
// none.
func (m *merge) next() (*kv.Row, error) {
	for {
		if m.passed {
			m.passed = false
			m.below.step()
		}
		key := m.nearest()
		if key == nil || !bytes.HasPrefix(key, m.r.Prefix) {
			return nil, nil
		}
		row, err := m.pick(key)
		if err != nil || row != nil && !row.Gone() {
			return row, err
		}
	}
}

// nearest gives the next key of any source.
func (m *merge) nearest() []byte {
	key := m.below.key
	for i := range m.n {
		c := &m.cursors[i]
		if c.row == nil {
			continue
		}
		if key == nil || (bytes.Compare(c.node.key(), key) < 0) != m.r.Reverse {
			key = c.node.key()
		}
	}
	return key
}

// pick takes the newest row under key and moves all sources that have the key
// behind it.
func (m *merge) pick(key []byte) (*kv.Row, error) {
	var found *kv.Row
	for i := range m.n {
		c := &m.cursors[i]
		if c.row == nil || !bytes.Equal(c.node.key(), key) {
			continue
		}
		if found == nil {
			m.row = *c.row
			found = &m.row
		}
		c.step()
	}
	if m.below.key == nil || !bytes.Equal(m.below.key, key) {
		return found, nil
	}
	if found == nil {
		m.row = kv.Row{}
		if err := m.below.read(&m.row, m.r.KeysOnly); err != nil {
			return nil, err
		}
		found = &m.row
	}
	m.passed = true // what was read is valid until the step
	return found, nil
}

// belowCursor walks Badger. What it gives is valid until the next step.
type belowCursor struct {
	it  *badgerdb.Iterator
	key []byte // nil: at the end
}

func (c *belowCursor) step() {
	c.it.Next()
	c.settle()
}

// settle goes on to a row that is not ours.
func (c *belowCursor) settle() {
	for c.key = nil; c.it.Valid(); c.it.Next() {
		if key := c.it.Item().Key(); !bytes.HasPrefix(key, []byte(reservedOurs)) {
			c.key = key
			return
		}
	}
}

func (c *belowCursor) read(row *kv.Row, keysOnly bool) error {
	item := c.it.Item()
	row.Key, row.Expires = item.Key(), int64(item.ExpiresAt())
	if keysOnly {
		return nil
	}
	return item.Value(func(value []byte) error {
		row.Value = value
		return nil
	})
}
