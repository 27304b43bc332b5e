package badger

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"

	"behalf/internal/kv"
)

// A delete leaves a marker, and the row and the marker take room until Badger
// happens to merge the tables that hold them. The tidier merges them all when
// deletes outweigh what lives, at low load, so that a queue that emptied gives
// the disk back. The work is paid for by the deletes: one full merge for at
// least as many deletes as half of the rows it reads.
//
// Markers in the memory table are merged by nothing until that table is full,
// and hide rows many times their size; so it is filled up first. That leaves
// tables on two levels, which Flatten merges, or two new ones, which Badger
// merges by itself.
type tidier struct {
	store *Store
	db    *badgerdb.DB
	log   *slog.Logger
	every time.Duration
	stop  chan struct{}
	done  chan struct{}

	rows    atomic.Int64 // written since the last look
	deletes atomic.Int64 // since the last merge
}

const (
	tidyEvery   = 5 * time.Second // how often it looks
	tidyDeletes = 10_000          // fewer are not worth a merge
	tidyRoom    = 8 << 20         // nor is a smaller tree
	tidyQuiet   = 2_000           // rows a second: below, the load is low
	tidyAnyway  = 512 << 20       // a tree this large, mostly dead, is merged at any load
)

func newTidier(s *Store, every time.Duration) *tidier {
	t := &tidier{store: s, db: s.db, log: s.log, every: every, stop: make(chan struct{}), done: make(chan struct{})}
	go t.run()
	return t
}

func (t *tidier) count(rows, deleted int) {
	t.rows.Add(int64(rows))
	if deleted > 0 {
		t.deletes.Add(int64(deleted))
	}
}

func (t *tidier) close() {
	close(t.stop)
	<-t.done
}

func (t *tidier) run() {
	defer close(t.done)
	tick := time.NewTicker(t.every)
	defer tick.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-tick.C:
		}
		quiet := float64(t.rows.Swap(0)) < tidyQuiet*t.every.Seconds()
		if t.worth(quiet) {
			t.merge()
		}
	}
}

// worth reports whether deletes outweigh what lives in the tables.
func (t *tidier) worth(quiet bool) bool {
	deletes := t.deletes.Load()
	if deletes < tidyDeletes {
		return false
	}
	var keys, size int64
	for _, table := range t.db.Tables() {
		keys += int64(table.KeyCount)
		size += int64(table.OnDiskSize)
	}
	if !quiet && (size < tidyAnyway || deletes < 2*keys) {
		return false
	}
	return size >= tidyRoom && deletes >= keys/2
}

func (t *tidier) merge() {
	t.deletes.Store(0)
	err := t.fill()
	if err == nil {
		err = t.db.Flatten(1)
	}
	if err != nil && !errors.Is(err, kv.ErrClosed) {
		t.log.Warn("badger", "message", "could not merge tables; deleted rows keep their room for now", "error", err)
	}
}

// filler begins the keys that fill up a memory table. They are deleted at once.
const filler = "\xffbehalf/filler/"

// fill writes until Badger begins a new memory table, and waits until the full
// one is a table on disk.
func (t *tidier) fill() error {
	full, err := t.newestLog()
	if err != nil {
		return err
	}
	value := make([]byte, kv.MaxValue)
	for newest := full; newest == full; {
		err := t.store.Update(context.Background(), func(w kv.Writer) error {
			return errors.Join(w.Put([]byte(filler+"0"), value), w.Put([]byte(filler+"1"), value))
		})
		if err != nil {
			return err
		}
		if newest, err = t.newestLog(); err != nil {
			return err
		}
	}
	err = t.store.Update(context.Background(), func(w kv.Writer) error {
		return errors.Join(w.Delete([]byte(filler+"0")), w.Delete([]byte(filler+"1")))
	})
	if err != nil {
		return err
	}
	return t.awaitFlush(full)
}

// awaitFlush waits until Badger has removed the log of a full memory table.
func (t *tidier) awaitFlush(log string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(log); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		select {
		case <-t.stop:
			return kv.ErrClosed
		case <-tick.C:
		}
	}
}

// newestLog gives the log file of the current memory table.
func (t *tidier) newestLog() (string, error) {
	logs, err := filepath.Glob(filepath.Join(t.store.dir.path, "*.mem"))
	if err != nil || len(logs) == 0 {
		return "", errors.Join(err, errors.New("there is no log file"))
	}
	return slices.MaxFunc(logs, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) // by number
	}), nil
}
