package kvtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"behalf/internal/kv"
)

type getter interface {
	Get(key []byte) ([]byte, error)
}

func get64(g getter, key string) uint64 {
	v, err := g.Get([]byte(key))
	if err != nil {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

func put64(w kv.Writer, key string, n uint64) error {
	return w.Put([]byte(key), binary.BigEndian.AppendUint64(nil, n))
}

// block holds up the functions of s until release is called.
func block(s kv.Store) (release func()) {
	running, over := make(chan struct{}), make(chan struct{})
	go func() {
		_ = s.Update(bg, func(kv.Writer) error {
			close(running)
			<-over
			return nil
		})
	}()
	<-running
	return func() { close(over) }
}

func cancelled(t *testing.T, s kv.Store) {
	ended, end := context.WithCancel(bg)
	end()
	if err := s.Update(ended, func(kv.Writer) error { t.Error("it ran"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that had ended gives %v", err)
	}
	release := block(s)
	ctx, cancel := context.WithTimeout(bg, 20*time.Millisecond)
	defer cancel()
	ran := false
	soon(t, "a cancelled waiter", func() {
		err := s.Update(ctx, func(w kv.Writer) error {
			ran = true
			return w.Put([]byte("cancelled"), nil)
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a cancelled waiter got %v", err)
		}
	})
	release()
	put(t, s, "after", "1")
	want(t, s, "cancelled", "-", "after", "1")
	if ran {
		t.Error("it was run all the same")
	}
}

func startedOutcome(t *testing.T, s kv.Store) {
	ctx, cancel := context.WithCancel(bg)
	soon(t, "a function whose context ends while it runs", func() {
		err := s.Update(ctx, func(w kv.Writer) error {
			cancel()
			time.Sleep(10 * time.Millisecond)
			return w.Put([]byte("a"), []byte("1"))
		})
		if err != nil {
			t.Errorf("it got %v", err)
		}
	})
	want(t, s, "a", "1")
}

func goOrder(t *testing.T, s kv.Store) {
	const n = 3000 // more than a queue holds
	refusal := errors.New("refused")
	var mu sync.Mutex
	var order []int
	last := make(chan struct{})
	for i := range n {
		s.Go(func(w kv.Writer) error {
			if i%7 == 0 {
				return refusal
			}
			return w.Put([]byte(keyOf(i)), nil)
		}, func(err error) {
			if errors.Is(err, refusal) != (i%7 == 0) || err != nil && i%7 != 0 {
				t.Errorf("function %d got %v", i, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if order = append(order, i); len(order) == n {
				close(last)
			}
		})
	}
	soon(t, "done of the last", func() { <-last })
	for i, got := range order {
		if got != i {
			t.Fatalf("done %d was called in place %d", got, i)
		}
	}
	want(t, s, keyOf(1), "", keyOf(0), "-", keyOf(n-1), "")
}

func goAlone(t *testing.T, s kv.Store) {
	for i := range 5 {
		done := make(chan error, 1)
		s.Go(func(w kv.Writer) error { return w.Put([]byte(keyOf(i)), nil) }, func(err error) { done <- err })
		soon(t, "done", func() {
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		want(t, s, keyOf(i), "")
	}
	s.Go(func(w kv.Writer) error { return w.Put([]byte("nobody asks"), nil) }, nil)
	put(t, s, "a", "1")
	want(t, s, "nobody asks", "")
}

func goThenUpdate(t *testing.T, s kv.Store) {
	for i := range 200 {
		var before atomic.Bool
		s.Go(func(w kv.Writer) error { return put64(w, "n", uint64(i+1)) }, func(error) { before.Store(true) })
		err := s.Update(bg, func(w kv.Writer) error {
			if n := get64(w, "n"); n != uint64(i+1) {
				return fmt.Errorf("an Update after a Go saw %d, want %d", n, i+1)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if !before.Load() {
			t.Fatal("the Update returned before the done of an earlier Go was called")
		}
	}
}

func counter(t *testing.T, s kv.Store) {
	const writers, times = 50, 20
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range times {
				if err := s.Update(bg, func(w kv.Writer) error { return put64(w, "n", get64(w, "n")+1) }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	soon(t, "the writers", all.Wait)
	_ = s.View(bg, func(r kv.Reader) error {
		if n := get64(r, "n"); n != writers*times {
			t.Errorf("the counter is at %d, want %d", n, writers*times)
		}
		return nil
	})
}

func mixed(t *testing.T, s kv.Store) {
	// Two counters always move together; no view may see them apart, and what
	// an Update wrote is there for the View that follows it.
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_ = s.View(bg, func(r kv.Reader) error {
					a := get64(r, "a")
					time.Sleep(100 * time.Microsecond)
					if b := get64(r, "b"); a != b {
						t.Errorf("one view saw %d and %d", a, b)
					}
					return nil
				})
			}
		})
	}
	for i := range 8 {
		writers.Go(func() {
			for j := range 40 {
				var mine uint64
				err := s.Update(bg, func(w kv.Writer) error {
					mine = get64(w, "a") + 1
					return errors.Join(put64(w, "a", mine), put64(w, "b", mine), w.Put([]byte(keyOf(i*1000+j)), nil))
				})
				if err != nil {
					t.Error(err)
				}
				_ = s.View(bg, func(r kv.Reader) error {
					if n := get64(r, "a"); n < mine {
						t.Errorf("after an Update that wrote %d a View reads %d", mine, n)
					}
					return nil
				})
			}
		})
	}
	soon(t, "the writers", writers.Wait)
	close(stop)
	soon(t, "the readers", readers.Wait)
}

func closing(t *testing.T, s kv.Store) {
	done := make(chan error, 1)
	s.Go(func(w kv.Writer) error { return w.Put([]byte("a"), nil) }, func(err error) { done <- err })
	soon(t, "Close", func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("a second Close gives %v", err)
		}
	})
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("what was queued before Close got %v", err)
		}
	default:
		t.Error("Close returned before done was called")
	}
}

func closeUnderLoad(t *testing.T, s kv.Store) {
	var all sync.WaitGroup
	var waiting atomic.Int64
	for i := range 50 {
		all.Go(func() {
			for j := 0; ; j++ {
				if i%2 == 0 {
					waiting.Add(1)
					s.Go(func(w kv.Writer) error { return w.Put([]byte(keyOf(i)), nil) }, func(error) { waiting.Add(-1) })
				}
				err := s.Update(bg, func(w kv.Writer) error { return w.Put([]byte(keyOf(i*1000+j%500)), nil) })
				if errors.Is(err, kv.ErrClosed) {
					return
				}
				if err != nil {
					t.Errorf("it got %v", err)
					return
				}
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	soon(t, "Close", func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	soon(t, "the writers", all.Wait)
	if n := waiting.Load(); n != 0 {
		t.Errorf("done was not called for %d functions", n)
	}
}

func closed(t *testing.T, s kv.Store) {
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(bg, func(kv.Writer) error { return nil }); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("Update gives %v", err)
	}
	if err := s.View(bg, func(kv.Reader) error { return nil }); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("View gives %v", err)
	}
	if err := s.Backup(bg, &bytes.Buffer{}); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("Backup gives %v", err)
	}
	s.Go(func(kv.Writer) error { return nil }, func(err error) {
		if !errors.Is(err, kv.ErrClosed) {
			t.Errorf("Go gives %v", err)
		}
	})
}

func backup(t *testing.T, s kv.Store) {
	fill(t, s, 5000)
	put(t, s, "empty", "", "gone", "1")
	err := s.Update(bg, func(w kv.Writer) error {
		return errors.Join(w.Delete([]byte("gone")), w.PutFor([]byte("life"), []byte("x"), time.Hour))
	})
	if err != nil {
		t.Fatal(err)
	}
	var dump bytes.Buffer
	if err := s.Backup(bg, &dump); err != nil {
		t.Fatal(err)
	}
	rows := map[string]kv.Row{}
	if err := kv.ReadDump(bytes.NewReader(dump.Bytes()), func(r kv.Row) error { rows[string(r.Key)] = r; return nil }); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 5002 {
		t.Errorf("the backup has %d rows, want 5002", len(rows))
	}
	if _, there := rows["empty"]; !there || string(rows[keyOf(4999)].Value) != keyOf(4999) {
		t.Error("rows are missing in the backup")
	}
	if left := time.Until(time.Unix(rows["life"].Expires, 0)); left < 50*time.Minute || left > 61*time.Minute {
		t.Errorf("in the backup the life ends in %v", left)
	}
	if err := s.Backup(bg, fullDisk{}); err == nil {
		t.Error("a backup onto a full disk succeeds")
	}
}

type fullDisk struct{}

func (fullDisk) Write(b []byte) (int, error) { return len(b) / 2, errors.New("disk full") }
