package badger

import (
	"cmp"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"

	"behalf/internal/fsync"
	"behalf/internal/kv"
)

// A delete of a row that is in Badger leaves a marker, and the row and the
// marker take room until Badger happens to merge the tables that hold them. The
// tidier merges them all when deletes outweigh what lives, at low load, so that
// a queue that emptied gives the disk back. The work is paid for by the deletes:
// one full merge for at least as many deletes as half of the rows it reads.
//
// Deletes that are still in the table in memory are first sent on to Badger.
// Markers in Badger's memory table are merged by nothing until that table is
// full, and hide rows many times their size; so it is filled up. That leaves
// tables on two levels, which Flatten merges, or new ones alone, which Badger
// merges by itself once there are enough of them.
type tidier struct {
	store *Store
	log   *slog.Logger
	every time.Duration
	stop  chan struct{}
	done  chan struct{}
}

// turnover counts what the tidier goes by.
type turnover struct {
	rows    atomic.Int64 // committed since the last look
	waiting atomic.Int64 // deletes in the table that is written
	deletes atomic.Int64 // that reached Badger since the last merge
}

const (
	tidyEvery   = 5 * time.Second // how often it looks
	tidyDeletes = 10_000          // fewer are not worth a merge
	tidyWaiting = 1_000           // fewer are not worth a flush
	tidyRoom    = 8 << 20         // nor is a smaller tree
	tidyQuiet   = 2_000           // rows a second: below, the load is low
	tidyAnyway  = 512 << 20       // a tree this large, mostly dead, is merged at any load
)

func newTidier(s *Store, log *slog.Logger, every time.Duration) *tidier {
	t := &tidier{store: s, log: log, every: every, stop: make(chan struct{}), done: make(chan struct{})}
	go t.run()
	return t
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
		quiet := float64(t.store.churn.rows.Swap(0)) < tidyQuiet*t.every.Seconds()
		t.look(quiet)
	}
}

// look sends deletes on when it is quiet, and merges once they are in Badger.
func (t *tidier) look(quiet bool) {
	deletes, waiting := t.store.churn.deletes.Load(), t.store.churn.waiting.Load()
	switch {
	case t.store.flushing():
	case quiet && waiting >= tidyWaiting && t.worth(deletes+waiting, quiet):
		t.sendOn()
	case t.worth(deletes, quiet):
		t.merge()
		t.store.churn.deletes.Add(-deletes)
	}
}

// worth reports whether deletes outweigh what lives in the tables.
func (t *tidier) worth(deletes int64, quiet bool) bool {
	if deletes < tidyDeletes {
		return false
	}
	var keys, size int64
	for _, table := range t.store.db.Tables() {
		keys += int64(table.KeyCount)
		size += int64(table.OnDiskSize)
	}
	if !quiet && (size < tidyAnyway || deletes < 2*keys) {
		return false
	}
	return size >= tidyRoom && deletes >= keys/2
}

// sendOn has the table in memory written to Badger, with the next commit, and
// sees to it that there is one.
func (t *tidier) sendOn() {
	t.store.turn.Store(true)
	t.store.Go(func(w kv.Writer) error { return w.Delete([]byte(filler)) }, nil)
}

func (t *tidier) merge() {
	err := t.fill()
	for err == nil && t.fewNew() {
		err = t.fill()
	}
	if err == nil {
		err = t.store.db.Flatten(1)
	}
	if err != nil && !errors.Is(err, kv.ErrClosed) {
		t.log.Warn("badger", "message", "could not merge tables; deleted rows keep their room for now", "error", err)
	}
}

// fewNew reports whether there are new tables alone, too few for Badger to merge.
func (t *tidier) fewNew() bool {
	tables := t.store.db.Tables()
	return 0 < len(tables) && len(tables) <= newTables && tables[len(tables)-1].Level == 0
}

// filler begins the keys that fill up a memory table of Badger's. They are long
// expired when they are written, so that nobody sees them.
const filler = "\xffbehalf/filler/"

// fill writes until Badger begins a new memory table, and waits until the full
// one is a table on disk. None of it needs to survive a crash.
func (t *tidier) fill() error {
	full, err := t.newestLog()
	if err != nil {
		return err
	}
	value := make([]byte, kv.MaxValue)
	for newest := full; newest == full; {
		err := t.store.db.Update(func(txn *badgerdb.Txn) error {
			return txn.SetEntry(&badgerdb.Entry{Key: []byte(filler), Value: value, ExpiresAt: 1})
		})
		if err != nil {
			return err
		}
		t.store.renew(nil) // what an older state could see is not merged away
		if newest, err = t.newestLog(); err != nil {
			return err
		}
	}
	if err := t.awaitFlush(full); err != nil {
		return err
	}
	return fsync.Path(t.store.dir) // Badger names the table on disk before its name is durable
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
	logs, err := filepath.Glob(filepath.Join(t.store.dir, "*.mem"))
	if err != nil || len(logs) == 0 {
		return "", errors.Join(err, errors.New("there is no log file"))
	}
	return slices.MaxFunc(logs, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) // by number
	}), nil
}
