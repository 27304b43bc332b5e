// Package badger is the kv.Store on Badger, for one node.
//
// One committer (kv.Committer) writes; each batch is one Badger transaction and
// one sync of the write-ahead log. Values stay in the tree: Badger's value log
// reclaims nothing under the churn of a queue, and a failed sync of it is only
// logged. Readers share one Badger snapshot per commit, so that a View never
// waits for the commit under way, and sees nothing that is not yet synced.
//
// Badger writes through memory maps into sparse files: on a full disk the
// process dies by SIGBUS. The doors must refuse long before (internal/diskspace).
package badger

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"behalf/internal/kv"
)

const (
	memTable = 16 << 20
	// reserved begins the keys that Badger keeps to itself.
	reserved = "!badger!"
)

// Options of a store; the zero value works.
type Options struct {
	// Log takes Badger's warnings; nil discards them.
	Log *slog.Logger
}

// Store is a kv.Store in a directory.
type Store struct {
	*kv.Committer
	db   *badgerdb.DB
	log  *slog.Logger
	dir  *directory
	tidy *tidier

	mu       sync.Mutex
	current  *snapshot // of the state after the last commit; nil until needed
	closed   bool
	readers  sync.WaitGroup // views under way
	closing  sync.Once
	closeErr error
}

// Open opens the store in dir, which it creates if need be, and recovers it.
// Only one process at a time can have it open.
func Open(dir string, opts Options) (*Store, error) {
	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	db, err := badgerdb.Open(settings(dir, log))
	if err != nil {
		return nil, fmt.Errorf("open store in %s: %w", dir, err)
	}
	s := &Store{db: db, log: log, dir: &directory{path: dir}}
	if err := s.dir.sync(); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("open store in %s: %w", dir, err)
	}
	s.Committer = kv.NewCommitter(engine{s}, kv.Limits{
		Rows:     int(db.MaxBatchCount()) - 16, // Badger adds a row that ends the transaction
		Bytes:    db.MaxBatchSize() - 4<<10,
		Reserved: []byte(reserved),
	})
	s.tidy = newTidier(s, tidyEvery)
	return s, nil
}

func settings(dir string, log *slog.Logger) badgerdb.Options {
	o := badgerdb.DefaultOptions(dir)
	o.Logger = logger{log}
	o.MetricsEnabled = false
	o.SyncWrites = true
	o.DetectConflicts = false // there is one committer
	o.NumVersionsToKeep = 1
	o.MemTableSize = memTable
	o.NumMemtables = 2
	o.NumLevelZeroTables = 2 // a queue's rows and their deletes should meet soon; see tidier
	o.NumLevelZeroTablesStall = 12
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
		s.tidy.close()
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.readers.Wait()
		s.supersede()
		s.closeErr = s.db.Close()
	})
	return s.closeErr
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
