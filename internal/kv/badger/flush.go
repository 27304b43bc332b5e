package badger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"

	"behalf/internal/fsync"
	"behalf/internal/kv"
)

// reservedOurs begins the keys in Badger that are ours, and that no reader sees.
const reservedOurs = "!behalf!"

// freedKey holds the number of the last file of the log whose rows are all in
// Badger. It is there from the first opening on: so a log that went missing is
// noticed.
const freedKey = reservedOurs + "freed"

// writingKey holds the number of the file whose rows were last begun to be
// written.
const writingKey = reservedOurs + "writing"

// flusher is the goroutine that writes full tables into Badger. What was put
// and deleted within one table never gets there.
type flusher struct {
	store  *Store
	tables chan *table   // to it
	free   chan struct{} // holds one token while it has no table
	done   chan struct{}
}

// newFlusher starts the goroutine with the table that was found frozen, or nil.
func newFlusher(s *Store, found *table) *flusher {
	f := &flusher{store: s, tables: make(chan *table, 1), free: make(chan struct{}, 1), done: make(chan struct{})}
	if found != nil {
		f.tables <- found
	} else {
		f.free <- struct{}{}
	}
	go f.run()
	return f
}

// close waits for the table under way; nobody hands over another.
func (f *flusher) close() {
	close(f.tables)
	<-f.done
}

func (f *flusher) run() {
	defer close(f.done)
	for t := range f.tables {
		if err := f.store.flush(t); err != nil {
			f.store.Fail(fmt.Errorf("flush log file %d into badger: %w", t.file, err))
			return // without the token: nothing is committed any more
		}
		f.free <- struct{}{}
	}
}

// flushing reports whether a table is on its way into Badger.
func (s *Store) flushing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frozen != nil
}

// flush makes the frozen table durable in Badger and lets its log file go.
func (s *Store) flush(t *table) error {
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"written", func() error { return s.writeBelow(t) }},
		{"synced", s.syncBelow},
		// Only now: Badger's log may keep this row and lose some before it.
		{"freed", func() error { return s.setFreed(t.file) }},
		{"renewed", func() error { s.renew(t); return nil }},
	} {
		if err := step.do(); err != nil {
			return err
		}
		if err := s.opts.stage(step.name); err != nil {
			return err
		}
	}
	return s.log.Free(t.file)
}

// renew has readers look at Badger as it is now, and no more at a table that it
// holds; nil: at both as before.
func (s *Store) renew(flushed *table) {
	s.renewing.Lock() // or an older state could take the place of a newer one
	defer s.renewing.Unlock()
	txn := s.db.NewTransaction(false)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.below.release()
	s.below = &below{txn: txn, refs: 1}
	if flushed != nil {
		s.frozen = nil
	}
	s.supersede()
}

// writeBelow writes the newest row of each key. A deleted or expired row only
// matters where Badger has another under its key, which it cannot if the row was
// new to the store in this table, and has if the table got the delete first.
//
// The rows go past Badger's transactions, which would gather them in a map and
// write them in no order.
func (s *Store) writeBelow(t *table) error {
	version, err := s.newVersion(t.file)
	if err != nil {
		return err
	}
	before := s.db.NewTransaction(false)
	defer before.Discard()
	to := s.db.NewKVLoader(writesAtOnce)
	entry := &pb.KV{Version: version} // of which the loader keeps the value alone
	written := 0                      // since it rested
	err = t.last(func(r, first *kv.Row) error {
		entry.Key, entry.Value, entry.ExpiresAt = r.Key, r.Value, uint64(r.Expires)
		if r.Gone() {
			if there, err := s.mayHold(before, first); !there || err != nil {
				return err
			}
			entry.Value, entry.ExpiresAt = nil, longExpired
			s.churn.deletes.Add(1)
		}
		written = s.pace.afterRow(written + rowCost + len(entry.Key) + len(entry.Value))
		return to.Set(entry)
	})
	return errors.Join(err, to.Finish())
}

const (
	// rowCost is what a row costs besides its octets, in octets.
	rowCost = 64
	// writesAtOnce is how many batches wait for Badger, each of up to 1.2 MiB: more
	// than the largest row, of which the loader could tell nobody that it is too large.
	writesAtOnce = 4
	// longExpired marks a delete: Badger takes what has expired for deleted.
	longExpired = 1
)

// newVersion gives a version for rows that no state sees which is read while
// they are written.
func (s *Store) newVersion(file uint64) (uint64, error) {
	err := s.db.Update(func(txn *badgerdb.Txn) error {
		return txn.Set([]byte(writingKey), binary.BigEndian.AppendUint64(nil, file))
	})
	if err != nil {
		return 0, err
	}
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	return txn.ReadTs(), nil
}

// mayHold reports whether Badger may have a row, of which the table first got this.
func (s *Store) mayHold(txn *badgerdb.Txn, first *kv.Row) (bool, error) {
	if first.New || first.Deleted {
		return first.Deleted, nil // what is deleted was there, as a rule
	}
	_, err := txn.Get(first.Key)
	if errors.Is(err, badgerdb.ErrKeyNotFound) {
		return false, nil
	}
	return err == nil, err
}

// syncBelow makes durable what was written to Badger: all its logs, of which
// Badger itself syncs only the newest. A log that is gone became a table, which
// is synced.
func (s *Store) syncBelow() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".mem" {
			continue
		}
		if err := fsync.Path(filepath.Join(s.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fsync.Path(s.dir)
}

// freed gives the last file of the log that is all in Badger; -1: this store
// never had a log.
func freed(db *badgerdb.DB) (file int64, err error) {
	file = -1
	err = db.View(func(txn *badgerdb.Txn) error {
		item, err := txn.Get([]byte(freedKey))
		if errors.Is(err, badgerdb.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return item.Value(func(v []byte) error {
			if len(v) != 8 {
				return fmt.Errorf("%s has %d octets", freedKey, len(v))
			}
			file = int64(binary.BigEndian.Uint64(v))
			return nil
		})
	})
	return file, err
}

func (s *Store) setFreed(file uint64) error {
	err := s.db.Update(func(txn *badgerdb.Txn) error {
		return txn.Set([]byte(freedKey), binary.BigEndian.AppendUint64(nil, file))
	})
	if err != nil {
		return err
	}
	return s.syncBelow()
}
