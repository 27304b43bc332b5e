package badger

import (
	"errors"
	"fmt"
	"os"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"

	"behalf/internal/kv"
)

// engine is the Store as the committer sees it.
type engine struct{ s *Store }

// Hold implements kv.Engine.
func (e engine) Hold() kv.Base {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	return e.s.take()
}

// Apply implements kv.Engine: one transaction, one sync.
func (e engine) Apply(rows []kv.Row, needs []kv.Durable) error {
	if err := kv.Await(needs); err != nil {
		return err
	}
	s := e.s
	s.mu.Lock()
	s.take().unlockedRelease() // readers find a snapshot while the commit lasts
	s.mu.Unlock()
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	deleted := 0
	for i := range rows {
		r := &rows[i]
		var err error
		if r.Deleted {
			deleted++
			err = txn.Delete(r.Key)
		} else {
			err = txn.SetEntry(&badgerdb.Entry{Key: r.Key, Value: r.Value, ExpiresAt: uint64(r.Expires)})
		}
		if err != nil {
			return fmt.Errorf("build transaction of %d rows: %w", len(rows), err)
		}
	}
	if err := txn.Commit(); err != nil {
		return fmt.Errorf("commit %d rows: %w", len(rows), err)
	}
	if err := s.dir.settle(); err != nil {
		return err
	}
	s.supersede()
	s.tidy.count(len(rows), deleted)
	return nil
}

// directory makes names of files durable. Badger syncs what it writes into a
// new log file but not the directory in which it made it.
type directory struct {
	path    string
	changed time.Time // modification time at the last sync
	settled bool      // nothing can have changed unseen at that very time
}

// clockStep is longer than the steps in which file systems count time.
const clockStep = 50 * time.Millisecond

// settle syncs the directory if it changed since it was synced last.
func (d *directory) settle() error {
	info, err := os.Stat(d.path)
	if err != nil {
		return fmt.Errorf("look at store directory: %w", err)
	}
	if d.settled && info.ModTime().Equal(d.changed) {
		return nil
	}
	d.changed = info.ModTime()
	d.settled = time.Since(d.changed) > clockStep
	return d.sync()
}

func (d *directory) sync() error {
	f, err := os.Open(d.path)
	if err != nil {
		return fmt.Errorf("sync store directory: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync store directory: %w", err)
	}
	return nil
}
