// Package mem is a kv.Store in memory: an ordered, copy-on-write map under the
// same committer as the other engines. Tests stand on it, under testing/synctest
// too, and it can cut the power.
package mem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tidwall/btree"

	"behalf/internal/kv"
)

// The same limits as those of the Badger engine, so that tests meet them too.
const (
	maxRows  = 24_000
	maxBytes = 2 << 20
)

type tree = btree.BTreeG[kv.Row]

// Options bend a store for tests; the zero value is a store that syncs at once.
type Options struct {
	// Sync is how long a sync takes.
	Sync time.Duration
}

// Store is a kv.Store in memory.
type Store struct {
	opts Options
	*kv.Committer

	mu     sync.Mutex
	state  *tree // as last synced; never changed, only replaced
	next   *tree // being synced, or nil
	cut    bool
	closed bool
}

var (
	errCut = errors.New("mem: the power was cut")
	// errNotNew shows a fault of the caller's that other engines do not look for.
	errNotNew = errors.New("mem: PutNew of a key that is there")
)

// New gives an empty store. Close ends its goroutines.
func New(opts Options) *Store {
	return open(opts, btree.NewBTreeGOptions(less, btree.Options{NoLocks: true}))
}

func open(opts Options, state *tree) *Store {
	s := &Store{opts: opts, state: state}
	s.Committer = kv.NewCommitter(engine{s}, kv.Limits{Rows: maxRows, Bytes: maxBytes})
	return s
}

func less(a, b kv.Row) bool { return bytes.Compare(a.Key, b.Key) < 0 }

// Cut ends the store as a power cut would and gives the store that a restart
// would find: all that was synced. Whether the batch that was being synced got
// through is for the caller to say; either can happen. Everything under way on
// the old store fails; it is still to be closed.
func (s *Store) Cut(lucky bool) *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.state
	if lucky && s.next != nil {
		found = s.next
	}
	s.cut = true
	s.Fail(errCut)
	return open(s.opts, found.Copy())
}

// Load fills a new store with a backup.
func Load(r io.Reader) (*Store, error) {
	s := New(Options{})
	state := s.state.Copy()
	err := kv.ReadDump(r, func(row kv.Row) error {
		state.Set(row)
		return nil
	})
	if err != nil {
		s.Close()
		return nil, err
	}
	s.state = state
	return s, nil
}

// View implements kv.Store.
func (s *Store) View(ctx context.Context, fn func(kv.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	state, closed := s.state, s.closed
	s.mu.Unlock()
	if closed {
		return kv.ErrClosed
	}
	return fn(view{ctx, state})
}

// Backup implements kv.Store.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	return s.View(ctx, func(r kv.Reader) error {
		d, err := kv.NewDumpWriter(w)
		if err != nil {
			return err
		}
		r.(view).state.Scan(func(row kv.Row) bool {
			if !row.Gone() {
				err = d.Put(row)
			}
			return err == nil && ctx.Err() == nil
		})
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		return d.Finish()
	})
}

// Close implements kv.Store.
func (s *Store) Close() error {
	s.Committer.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// engine is the Store as the committer sees it.
type engine struct{ s *Store }

func (e engine) Hold() kv.Base {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	return base{view{nil, e.s.state}}
}

func (e engine) Apply(rows []kv.Row, needs []kv.Durable) error {
	if err := kv.Await(needs); err != nil {
		return err
	}
	s := e.s
	s.mu.Lock() // a copy marks the tree it is taken from
	next := s.state.Copy()
	s.mu.Unlock()
	for _, r := range rows {
		if old, there := next.Get(r); there && r.New && !old.Gone() {
			return fmt.Errorf("%w: %x", errNotNew, r.Key)
		}
		if r.Deleted {
			next.Delete(r)
		} else {
			next.Set(r)
		}
	}
	s.mu.Lock()
	s.next = next
	s.mu.Unlock()
	if s.opts.Sync > 0 {
		time.Sleep(s.opts.Sync)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return errCut
	}
	s.state, s.next = next, nil
	return nil
}

type base struct{ view }

func (base) Release() {}
