package badger

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"behalf/internal/kv"
)

// room gives the disk that a directory takes and the sum of its files' sizes.
func room(t testing.TB, dir string) (taken, sizes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // a table may go at any time
		}
		info, err := e.Info()
		if err != nil {
			return nil
		}
		taken += info.Sys().(*syscall.Stat_t).Blocks * 512
		sizes += info.Size()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return taken, sizes
}

// churnKey is a key of a queue: the time-ordered ones are spread by nothing.
func churnKey(n int) []byte {
	key := binary.BigEndian.AppendUint64([]byte("queue/"), uint64(n))
	return append(key, "0123456789abcdef"...)
}

func change(t testing.TB, s *Store, from, to int, fn func(w kv.Writer, n int) error) {
	t.Helper()
	const step = 1000
	for i := from; i < to; i += step {
		err := s.Update(context.Background(), func(w kv.Writer) error {
			for n := i; n < min(i+step, to); n++ {
				if err := fn(w, n); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// churn puts rows through the store as a queue does, with depth of them there
// at a time, and leaves the last 100.
func churn(t testing.TB, s *Store, rows, depth int) {
	t.Helper()
	value := make([]byte, 120)
	for i := range value {
		value[i] = byte(i * 37)
	}
	put := func(w kv.Writer, n int) error { return w.Put(churnKey(n), value) }
	del := func(w kv.Writer, n int) error { return w.Delete(churnKey(n)) }
	gone := 0
	for i := 0; i < rows; i += depth {
		change(t, s, i, min(i+depth, rows), put)
		if i >= depth {
			change(t, s, gone, i, del)
			gone = i
		}
	}
	change(t, s, gone, rows-100, del)
}

func BenchmarkMillion(b *testing.B) {
	for _, depth := range []int{10_000, 200_000, 1_000_000} {
		b.Run(fmt.Sprintf("depth %d", depth), func(b *testing.B) {
			for b.Loop() {
				dir := b.TempDir()
				s, err := Open(dir, Options{})
				if err != nil {
					b.Fatal(err)
				}
				idle, sizes := room(b, dir)
				b.Logf("empty: %d KiB taken, %d MiB of files", idle>>10, sizes>>20)
				start := time.Now()
				churn(b, s, 1_000_000, depth)
				taken, _ := room(b, dir)
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				b.Logf("after %v: %d MiB; heap in use %d MiB of %d", time.Since(start).Round(time.Millisecond), taken>>20, m.HeapInuse>>20, m.HeapSys>>20)
				for range 8 {
					time.Sleep(3 * time.Second)
					taken, _ = room(b, dir)
					b.Logf("after %v: %d MiB", time.Since(start).Round(time.Millisecond), taken>>20)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				taken, _ = room(b, dir)
				b.Logf("closed: %d MiB", taken>>20)
			}
		})
	}
}

// A queue that emptied gives the disk back.
func TestDeletesGiveRoomBack(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.tidy.close() // it looks when the churn is over, and does not wait
	idle, _ := room(t, dir)
	if idle > 1<<20 {
		t.Errorf("an empty store takes %d KiB", idle>>10)
	}
	churn(t, s, 120_000, 120_000)
	full, _ := room(t, dir)
	s.tidy = newTidier(s, slog.New(slog.DiscardHandler), 100*time.Millisecond)
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
		if taken, _ := room(t, dir); taken < 10<<20+2*(logSize+1<<20) {
			t.Logf("%d MiB after the churn, %d MiB after the merge", full>>20, taken>>20)
			checkLeft(t, s)
			return
		}
	}
	taken, _ := room(t, dir)
	t.Errorf("after two minutes, 100 rows still take %d MiB of %d MiB", taken>>20, full>>20)
}

func checkLeft(t *testing.T, s *Store) {
	t.Helper()
	left := 0
	err := s.View(context.Background(), func(r kv.Reader) error {
		return r.Scan(kv.Range{}, func(_, _ []byte) bool { left++; return true })
	})
	if err != nil || left != 100 {
		t.Errorf("%d rows are left, want 100: %v", left, err)
	}
}
