package badger_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"

	"behalf/internal/kv"
	"behalf/internal/kv/badger"
)

// accept writes what one accepted message writes: four rows, about 1 KiB.
func accept(w kv.Writer, n uint64) error {
	var key [24]byte
	value := make([]byte, 300)
	for part, size := range []int{300, 300, 0, 300} {
		key[0] = "mrdf"[part]
		binary.BigEndian.PutUint64(key[8:], n)
		if err := w.PutNew(key[:], value[:size]); err != nil {
			return err
		}
	}
	return nil
}

// writers shares b.N calls of fn among n goroutines.
func writers(b *testing.B, n int, fn func(uint64) error) {
	var next atomic.Uint64
	var all sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	for range n {
		all.Go(func() {
			for {
				i := next.Add(1)
				if i > uint64(b.N) {
					return
				}
				if err := fn(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

// cpu is what the process has used, user and system.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var concurrency = []int{1, 20, 100}

func BenchmarkUpdate(b *testing.B) {
	for _, n := range concurrency {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := open(b, b.TempDir())
			writers(b, n, func(i uint64) error {
				return s.Update(context.Background(), func(w kv.Writer) error { return accept(w, i) })
			})
		})
	}
}

// BenchmarkQueue writes what a message writes and, in a commit of its own,
// deletes what another wrote a thousand messages ago.
func BenchmarkQueue(b *testing.B) {
	for _, n := range concurrency {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := open(b, b.TempDir())
			writers(b, n, func(i uint64) error {
				s.Go(func(w kv.Writer) error { return settle(w, i-1000) }, nil)
				return s.Update(context.Background(), func(w kv.Writer) error { return accept(w, i) })
			})
		})
	}
}

func settle(w kv.Writer, n uint64) error {
	var key [24]byte
	for part := range 4 {
		key[0] = "mrdf"[part]
		binary.BigEndian.PutUint64(key[8:], n)
		if err := w.Delete(key[:]); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkOneEach is what Badger does without merging.
func BenchmarkOneEach(b *testing.B) {
	for _, n := range concurrency {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			o := badgerdb.DefaultOptions(b.TempDir()).WithLogger(nil).WithSyncWrites(true).
				WithMemTableSize(16 << 20).WithDetectConflicts(false).WithMetricsEnabled(false)
			db, err := badgerdb.Open(o)
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			writers(b, n, func(i uint64) error {
				return db.Update(func(txn *badgerdb.Txn) error { return accept(bare{Txn: txn}, i) })
			})
		})
	}
}

// bare is a badger transaction as a kv.Writer.
type bare struct {
	kv.Writer
	Txn *badgerdb.Txn
}

func (b bare) Put(key, value []byte) error {
	return b.Txn.Set(append([]byte(nil), key...), append([]byte(nil), value...))
}

func BenchmarkView(b *testing.B) {
	s := open(b, b.TempDir())
	for i := range uint64(10_000) {
		s.Go(func(w kv.Writer) error { return accept(w, i) }, nil)
	}
	get := func(b *testing.B, s *badger.Store) {
		var key [24]byte
		key[0] = 'r'
		binary.BigEndian.PutUint64(key[8:], 77)
		for b.Loop() {
			err := s.View(context.Background(), func(r kv.Reader) error {
				_, err := r.Get(key[:])
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("idle", func(b *testing.B) { get(b, s) })
	b.Run("while commits go on", func(b *testing.B) {
		stop := make(chan struct{})
		var writer sync.WaitGroup
		writer.Go(func() {
			for i := uint64(0); ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				_ = s.Update(context.Background(), func(w kv.Writer) error { return accept(w, i) })
			}
		})
		get(b, s)
		close(stop)
		writer.Wait()
	})
}
