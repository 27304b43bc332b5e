package badger

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"
)

// Badger takes rows and merges its tables as fast as it can, by up to five
// goroutines at once, and whoever commits meanwhile waits for a processor at
// every step: for half a second on two of them. So the pacer has a flush rest
// between its rows, and those that merge take turns at resting, as long as both
// keep up with what comes.
//
// Badger has no setting for that. But it tells its logger of each table that a
// merge has put together, by the goroutine that did it, and how long it took: so
// that is where a merge rests. Should a later version not tell, its merges are as
// fast as they can be again.
type pacer struct {
	db   atomic.Pointer[badgerdb.DB] // nil: nothing rests
	over chan struct{}

	hurried atomic.Bool // a flush will soon be waited for

	mu       sync.Mutex
	restsEnd time.Time // the last of those that merge rests
}

const (
	// mergedNotice begins what Badger tells of a table.
	mergedNotice = "[%d] LOG Compact. Added"
	// mergeRest is how long a merge rests for a table of two megabytes or more, which
	// takes some 20 ms to build, while there are few new tables: less and less, the
	// more there are, and not at all when mergesBehind of them wait. With
	// NumLevelZeroTablesStall of them Badger takes no more rows.
	mergeRest    = 100 * time.Millisecond
	mergesBehind = 2 * newTables
	// A flush rests for flushRest after flushStep octets of rows, until the log
	// file that is written meanwhile is half full.
	flushRest = 15 * time.Millisecond
	flushStep = 256 << 10
)

func newPacer() *pacer { return &pacer{over: make(chan struct{})} }

// begin begins to pace db, and end lets all go on, for a stop is not to wait.
func (p *pacer) begin(db *badgerdb.DB) { p.db.Store(db) }
func (p *pacer) end()                  { close(p.over) }

// note is called with what Badger tells its logger.
func (p *pacer) note(format string, args []any) {
	took, db := merged(format, args), p.db.Load()
	if took == 0 || db == nil {
		return
	}
	if pause := mergePause(took, db.Levels()[0].NumTables); pause > 0 {
		p.rest(p.inTurn(pause))
	}
}

// merged gives how long a merge took for a table, if that is what Badger tells.
func merged(format string, args []any) (took time.Duration) {
	if strings.HasPrefix(format, mergedNotice) && len(args) > 0 {
		took, _ = args[len(args)-1].(time.Duration)
	}
	return took
}

// mergePause is how long to rest for a table, by the time that it took and the
// number of new tables.
func mergePause(took time.Duration, tables int) time.Duration {
	room := min(max(mergesBehind-tables, 0), newTables)
	return min(4*took, mergeRest) * time.Duration(room) / newTables
}

// inTurn gives how long to wait, so that each of those that wait rests for a time
// of its own.
func (p *pacer) inTurn(pause time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.restsEnd.Before(now) {
		p.restsEnd = now
	}
	p.restsEnd = p.restsEnd.Add(pause)
	return p.restsEnd.Sub(now)
}

// afterRow is called by a flush with the octets of rows since it rested, and gives
// those that still count.
func (p *pacer) afterRow(octets int) int {
	if octets < flushStep {
		return octets
	}
	if p.db.Load() != nil && !p.hurried.Load() {
		p.rest(flushRest)
	}
	return 0
}

// rest waits, unless all is over.
func (p *pacer) rest(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.over:
	}
}
