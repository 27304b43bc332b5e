package badger

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	badgerdb "github.com/dgraph-io/badger/v4"

	"behalf/internal/kv"
)

// snapshot is a state that many readers share. A Badger transaction that only
// reads may be used by many goroutines.
type snapshot struct {
	store *Store
	txn   *badgerdb.Txn
	refs  int // under store.mu; one is the store's while the state is current
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

// take gives the current state and counts the user. A new snapshot waits for
// the commits under way; there are none when the store has no current one,
// because Apply sees to it that it has.
func (s *Store) take() *snapshot {
	if s.current == nil {
		s.current = &snapshot{store: s, txn: s.db.NewTransaction(false), refs: 1}
	}
	s.current.refs++
	return s.current
}

// supersede lets go of the current state: there is a newer one.
func (s *Store) supersede() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.current; old != nil {
		s.current = nil
		old.unlockedRelease()
	}
}

// Release implements kv.Base.
func (p *snapshot) Release() {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	p.unlockedRelease()
}

func (p *snapshot) unlockedRelease() {
	p.refs--
	if p.refs == 0 {
		p.txn.Discard()
	}
}

// Get implements kv.Base and kv.Reader.
func (p *snapshot) Get(key []byte) ([]byte, error) {
	if len(key) == 0 {
		return nil, kv.ErrNotFound
	}
	item, err := p.txn.Get(key)
	if errors.Is(err, badgerdb.ErrKeyNotFound) {
		return nil, kv.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	return item.ValueCopy(nil)
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
	o := badgerdb.IteratorOptions{Reverse: r.Reverse, Prefix: r.Prefix} // values are in the tree: nothing to prefetch
	it := v.txn.NewIterator(o)
	defer it.Close()
	if r.Reverse {
		it.Seek(kv.Last(r))
	} else {
		it.Seek(kv.First(r))
	}
	for n := 1; it.Valid(); it.Next() {
		item := it.Item()
		if !bytes.HasPrefix(item.Key(), r.Prefix) {
			return nil
		}
		if n++; n%checkEvery == 0 && v.ctx.Err() != nil {
			return v.ctx.Err()
		}
		more, err := visit(item, r.KeysOnly, fn)
		if err != nil {
			return fmt.Errorf("scan: %w", err)
		}
		if !more {
			return nil
		}
	}
	return nil
}

func visit(item *badgerdb.Item, keysOnly bool, fn func(key, value []byte) bool) (more bool, err error) {
	if keysOnly {
		return fn(item.Key(), nil), nil
	}
	err = item.Value(func(value []byte) error {
		more = fn(item.Key(), value)
		return nil
	})
	return more, err
}

// dump writes every live row.
func (v view) dump(d *kv.DumpWriter) error {
	it := v.txn.NewIterator(badgerdb.IteratorOptions{})
	defer it.Close()
	n := 0
	for it.Rewind(); it.Valid(); it.Next() {
		if n++; n%checkEvery == 0 && v.ctx.Err() != nil {
			return v.ctx.Err()
		}
		item := it.Item()
		row := kv.Row{Key: item.Key(), Expires: int64(item.ExpiresAt())}
		err := item.Value(func(value []byte) error {
			row.Value = value
			return d.Put(row)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
