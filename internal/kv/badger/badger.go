// Package badger is the kv.Store on Badger, for one node.
//
// One committer (kv.Committer) writes; each batch is one record of a log of our
// own (internal/kv/journal), synced once, and its rows go into a table in
// memory. A full log file is frozen with its table, and what of that still lives
// is written to Badger in the background, in order and without syncs; then
// Badger is synced and the log file is used again. Most rows of a queue die
// young and never get there. See docs/adr/0002-log-before-badger.md.
//
// Readers see the table that is written, over the frozen one, over Badger, all
// as they were after one commit. They share one snapshot per commit, never wait,
// and see nothing that is not yet synced.
//
// Values stay in Badger's tree: its value log reclaims nothing under the churn
// of a queue. Badger writes through memory maps into sparse files: on a full
// disk the process dies by SIGBUS, and the next start goes on from the log. The
// doors must refuse long before (internal/diskspace).
package badger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"behalf/internal/fsync"
	"behalf/internal/kv"
	"behalf/internal/kv/journal"
)

const (
	// memTable is how large Badger's tables in memory get. Badger keeps eight
	// buffers for tables that it builds, each of which grows to a few times this.
	//
	// What is flushed at once must not fill a whole one: so each holds a key of
	// ours from the beginning or the end of a flush, below all others, all overlap,
	// and Badger merges the oldest together. Were the oldest merged alone into an
	// empty tree, it might drop markers from the others, beside it, too early.
	memTable = 8 << 20
	// newTables is how many full ones are merged at once.
	newTables = 4
	// memTableBefore is what it was in earlier versions.
	memTableBefore = 16 << 20
	// logSize is how large a file of the log gets, about: it bounds the two
	// tables in memory, and what a start reads.
	logSize = 8 << 20
	// reserved begins the keys that Badger keeps to itself.
	reserved = "!badger!"
	// What one commit takes. The largest row must fit into a batch of Badger's,
	// nothing else must.
	maxRows  = 24_000
	maxBytes = 2 << 20
)

// Options of a store; the zero value works.
type Options struct {
	// Log takes Badger's warnings; nil discards them.
	Log *slog.Logger
	// Whole is asked at Open about what the last commit needs, by the token of
	// its [kv.Durable]: whether it is there, and on stable storage from now on.
	Whole func(token []byte) (bool, error)
	// Full tells that the disk has no room to spare; nil: never. Badger's maps
	// are not written to then where that can wait.
	Full func() bool

	// For tests.
	logSize int64
	stage   func(string) error // called after each step of a flush
}

// Store is a kv.Store in a directory.
type Store struct {
	*kv.Committer
	opts    Options
	db      *badgerdb.DB
	dir     string
	log     *journal.Journal // the committer's, but for Free
	flusher *flusher
	tidy    *tidier
	pager   *pager
	pace    *pacer
	turn    atomic.Bool // the next commit begins a new file of the log
	churn   turnover

	renewing sync.Mutex // taken before mu

	mu      sync.Mutex
	commit  uint64      // the last that is stable
	active  *table      // of the log file that is written
	frozen  *table      // of the one before, while it is written to Badger; or nil
	below   *below      // Badger, without the two
	current *snapshot   // of the state after commit; nil until needed
	held    []*snapshot // that somebody uses, oldest first
	closed  bool

	readers  sync.WaitGroup // views under way
	closing  sync.Once
	closeErr error
}

// Open opens the store in dir, which it creates if need be, and recovers it.
// Only one process at a time can have it open.
func Open(dir string, opts Options) (*Store, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	opts.logSize = cmp.Or(opts.logSize, logSize)
	if opts.Full == nil {
		opts.Full = func() bool { return false }
	}
	if opts.stage == nil {
		opts.stage = func(string) error { return nil }
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	pace := newPacer()
	db, err := badgerdb.Open(settings(dir, opts.Log, pace))
	if err != nil {
		return nil, fmt.Errorf("open store in %s: %w", dir, err)
	}
	s := &Store{opts: opts, db: db, dir: dir, pace: pace}
	if err := s.recover(); err != nil {
		return nil, fmt.Errorf("open store in %s: %w", dir, errors.Join(err, db.Close()))
	}
	s.below = &below{txn: db.NewTransaction(false), refs: 1}
	s.Committer = kv.NewCommitter(engine{s}, kv.Limits{
		Rows: maxRows, Bytes: maxBytes, Reserved: [][]byte{[]byte(reserved), []byte(reservedOurs)},
	})
	s.flusher = newFlusher(s, s.frozen)
	s.tidy = newTidier(s, opts.Log, tidyEvery)
	s.pager = newPager(s, pagerEvery, pagerRoom)
	pace.begin(db)
	return s, nil
}

// recover opens the log and fills the tables from it.
func (s *Store) recover() error {
	last, err := freed(s.db)
	if err != nil {
		return err
	}
	s.log, err = journal.Open(s.dir, last, journal.Options{Size: s.opts.logSize, Whole: s.whole()}, func(file, commit uint64, rows []kv.Row, frozen bool) {
		t := &s.active
		if frozen {
			t = &s.frozen
		}
		if *t == nil {
			*t = newTable(file)
		}
		(*t).file = file
		(*t).put(rows, commit, commit)
		s.commit = commit
	})
	if err != nil {
		return err
	}
	if s.active == nil {
		s.active = newTable(s.log.File())
	}
	if last < 0 {
		err = s.setFreed(0)
	}
	if err == nil {
		err = fsync.Path(s.dir)
	}
	if err != nil {
		_ = s.log.Close()
	}
	return err
}

// whole asks for what the last commit needs, and tells when it is not there.
func (s *Store) whole() func(token []byte) (bool, error) {
	if s.opts.Whole == nil {
		return nil
	}
	return func(token []byte) (bool, error) {
		ok, err := s.opts.Whole(token)
		if err == nil && !ok {
			s.opts.Log.Warn("the last commit is dropped: what it needs did not get to the disk before the crash; nothing in it was acknowledged", "store", s.dir, "token", fmt.Sprintf("%x", token))
		}
		return ok, err
	}
}

func settings(dir string, log *slog.Logger, pace *pacer) badgerdb.Options {
	o := badgerdb.DefaultOptions(dir)
	o.Logger = logger{log, pace}
	o.MetricsEnabled = false
	o.SyncWrites = false      // see flush
	o.DetectConflicts = false // there is one committer
	o.NumVersionsToKeep = 1
	o.MemTableSize = memTableOf(dir)
	o.NumMemtables = 2
	o.BaseTableSize = 2 << 20        // a merge builds some dozens of tables at once, each in twice that or more, and 3 MiB
	o.BaseLevelSize = 64 << 20       // a level more costs each row another merge
	o.NumLevelZeroTables = newTables // a queue's rows and their deletes should meet soon; see tidier
	o.NumLevelZeroTablesStall = 5 * newTables
	o.NumCompactors = 2
	o.NumGoroutines = 1
	o.ValueThreshold = 1 << 20   // over kv.MaxValue: values stay in the tree
	o.ValueLogFileSize = 1 << 20 // never written; its map is twice this
	o.Compression = options.None // blocks are read where they are mapped:
	o.BlockCacheSize = 0         // the page cache is the cache
	o.IndexCacheSize = 0
	o.CompactL0OnClose = false // a stop should be quick
	return o
}

// memTableOf gives the size for tables in memory: what fits all that is to be
// read into them at the start. A log that is written has twice that size; any
// other may be of an earlier version.
func memTableOf(dir string) int64 {
	entries, _ := os.ReadDir(dir) // Badger will tell
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".mem" {
			continue
		}
		if info, err := e.Info(); err == nil && info.Size() != 2*memTable {
			return memTableBefore
		}
	}
	return memTable
}

// View implements kv.Store.
func (s *Store) View(ctx context.Context, fn func(kv.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	snap, err := s.hold()
	if err != nil {
		return err
	}
	defer s.readers.Done()
	defer snap.Release()
	return fn(view{snap, ctx})
}

// Close implements kv.Store.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.Committer.Close()
		s.pace.end()
		s.tidy.close()
		s.pager.close()
		failed := s.Err() != nil
		flushed := s.flushLast()
		s.flusher.close()
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.readers.Wait()
		s.mu.Lock()
		s.supersede()
		s.below.release()
		s.mu.Unlock()
		if flushed == nil && !failed {
			flushed = s.Err() // the last flush may have failed the store
		}
		s.closeErr = errors.Join(flushed, s.log.Close(), s.db.Close())
	})
	return s.closeErr
}

// flushLast leaves nothing in the log at an orderly stop: so what reads Badger
// alone, such as an older version of the program, misses nothing, and what it
// writes is not overwritten by the log later.
func (s *Store) flushLast() error {
	if s.Err() != nil || s.log.Used() == 0 || s.opts.Full() {
		return nil
	}
	return s.nextFile()
}

// Backup implements kv.Store; see kv.DumpWriter for the format.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	d, err := kv.NewDumpWriter(w)
	if err != nil {
		return err
	}
	err = s.View(ctx, func(r kv.Reader) error { return r.(view).dump(d) })
	if err != nil {
		return fmt.Errorf("back up store: %w", err)
	}
	return d.Finish()
}
