package badger

import (
	"log/slog"
	"sync/atomic"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"
)

// A delete leaves a marker, and the row and the marker take room until Badger
// happens to merge the tables that hold them. The tidier merges them all when
// deletes outweigh what lives, at low load, so that a queue that emptied gives
// the disk back. The work is paid for by the deletes: one full merge for at
// least as many deletes as half of the rows it reads.
type tidier struct {
	db   *badgerdb.DB
	log  *slog.Logger
	stop chan struct{}
	done chan struct{}

	rows    atomic.Int64 // written since the last look
	deletes atomic.Int64 // since the last merge
}

const (
	tidyEvery   = 5 * time.Second
	tidyDeletes = 10_000    // fewer are not worth a merge
	tidyRoom    = 8 << 20   // nor is a smaller tree
	tidyQuiet   = 2_000     // rows a second: below, the load is low
	tidyAnyway  = 512 << 20 // a tree this large, mostly dead, is merged at any load
)

func newTidier(db *badgerdb.DB, log *slog.Logger) *tidier {
	t := &tidier{db: db, log: log, stop: make(chan struct{}), done: make(chan struct{})}
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
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-tick.C:
		}
		quiet := t.rows.Swap(0) < tidyQuiet*int64(tidyEvery/time.Second)
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
	if err := t.db.Flatten(1); err != nil {
		t.log.Warn("badger", "message", "could not merge tables; deleted rows keep their room for now", "error", err)
	}
}
