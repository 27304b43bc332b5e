package badger

import (
	"context"
	"errors"
	"fmt"
	"slices"

	badgerdb "github.com/dgraph-io/badger/v4"

	"behalf/internal/kv"
)

// below is a state of Badger that many snapshots share. A Badger transaction
// that only reads may be used by many goroutines.
type below struct {
	txn  *badgerdb.Txn
	refs int // under Store.mu
}

func (b *below) release() {
	if b.refs--; b.refs == 0 {
		b.txn.Discard()
	}
}

// snapshot is a state that many readers share: the table that is written, as it
// was after a commit, over the one that is on its way into Badger, over Badger.
type snapshot struct {
	store  *Store
	commit uint64
	tables [2]*table // newest first; the second may be nil
	below  *below
	refs   int // under store.mu; one is the store's while the state is current
}

// hold gives the current state to a View.
func (s *Store) hold() (*snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, kv.ErrClosed
	}
	s.readers.Add(1)
	return s.take(), nil
}

// take gives the current state and counts the user.
func (s *Store) take() *snapshot {
	if s.current == nil {
		s.below.refs++
		s.current = &snapshot{store: s, commit: s.commit, tables: [2]*table{s.active, s.frozen}, below: s.below, refs: 1}
		s.held = append(s.held, s.current)
	}
	s.current.refs++
	return s.current
}

// supersede lets go of the current state: there is a newer one.
func (s *Store) supersede() {
	if old := s.current; old != nil {
		s.current = nil
		old.release()
	}
}

// oldest is the oldest commit whose state somebody reads or may begin to.
func (s *Store) oldest() uint64 {
	if len(s.held) > 0 {
		return s.held[0].commit
	}
	return s.commit
}

// Release implements kv.Base.
func (p *snapshot) Release() {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	p.release()
}

func (p *snapshot) release() {
	if p.refs--; p.refs > 0 {
		return
	}
	p.below.release()
	i := slices.Index(p.store.held, p)
	p.store.held = slices.Delete(p.store.held, i, i+1)
}

// Get implements kv.Base and kv.Reader.
func (p *snapshot) Get(key []byte) ([]byte, error) {
	if len(key) == 0 {
		return nil, kv.ErrNotFound
	}
	for _, t := range p.tables {
		if t == nil {
			break
		}
		if r := t.get(key, p.commit); r != nil {
			if r.Gone() {
				return nil, kv.ErrNotFound
			}
			return r.Value, nil
		}
	}
	return p.below.get(key)
}

func (b *below) get(key []byte) (value []byte, err error) {
	item, err := b.txn.Get(key)
	if errors.Is(err, badgerdb.ErrKeyNotFound) {
		return nil, kv.ErrNotFound
	}
	if err == nil {
		err = item.Value(func(v []byte) error { // it stays the item's, which nobody else has
			value = v
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	return value, nil
}

// view is a snapshot for one View.
type view struct {
	*snapshot
	ctx context.Context
}

// checkEvery is how many rows a scan visits between looks at its context.
const checkEvery = 256

// Scan implements kv.Reader.
func (v view) Scan(r kv.Range, fn func(key, value []byte) bool) error {
	if err := v.walk(r, func(row *kv.Row) (bool, error) { return fn(row.Key, row.Value), nil }); err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	return nil
}

// dump writes every live row.
func (v view) dump(d *kv.DumpWriter) error {
	return v.walk(kv.Range{}, func(row *kv.Row) (bool, error) { return true, d.Put(*row) })
}

// walk gives the live rows of a range to fn, in order, until it returns false
// or an error.
func (v view) walk(r kv.Range, fn func(*kv.Row) (more bool, err error)) error {
	m := newMerge(v.snapshot, r)
	defer m.close()
	for n := 1; ; n++ {
		row, err := m.next()
		if row == nil || err != nil {
			return err
		}
		if n%checkEvery == 0 && v.ctx.Err() != nil {
			return v.ctx.Err()
		}
		if r.KeysOnly {
			row.Value = nil
		}
		if more, err := fn(row); err != nil || !more {
			return err
		}
	}
}
