package kv_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"behalf/internal/kv"
)

// slow is an engine whose syncs take as long as the test wants.
type slow struct {
	mu      sync.Mutex
	rows    map[string]string
	batches [][]string
	took    time.Duration
	fault   error
}

func (e *slow) Hold() kv.Base { return e }

func (e *slow) Release() {}

func (e *slow) Get(key []byte) ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, ok := e.rows[string(key)]
	if !ok {
		return nil, kv.ErrNotFound
	}
	return []byte(v), nil
}

func (e *slow) Apply(rows []kv.Row, needs []kv.Durable) error {
	if err := kv.Await(needs); err != nil {
		return err
	}
	var keys []string
	for _, r := range rows {
		keys = append(keys, string(r.Key))
	}
	time.Sleep(e.took)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fault != nil {
		return e.fault
	}
	e.batches = append(e.batches, keys)
	for _, r := range rows {
		e.rows[string(r.Key)] = string(r.Value)
	}
	return nil
}

// bubble runs fn with a committer whose syncs take 10 ms.
func bubble(t *testing.T, fn func(t *testing.T, e *slow, c *kv.Committer)) {
	synctest.Test(t, func(t *testing.T) {
		e := &slow{rows: map[string]string{}, took: 10 * time.Millisecond}
		c := kv.NewCommitter(e, kv.Limits{Rows: 10, Bytes: 10_000, Reserved: [][]byte{[]byte("!engine!")}})
		fn(t, e, c)
		c.Close()
	})
}

func write(key string) func(kv.Writer) error {
	return func(w kv.Writer) error { return w.Put([]byte(key), nil) }
}

var bg = context.Background()

func TestUpdateDoesNotLinger(t *testing.T) {
	bubble(t, func(t *testing.T, e *slow, c *kv.Committer) {
		start := time.Now()
		if err := c.Update(bg, write("a")); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != e.took {
			t.Errorf("alone it took %v, a sync takes %v", took, e.took)
		}
	})
}

func TestGoLingersForCompany(t *testing.T) {
	bubble(t, func(t *testing.T, e *slow, c *kv.Committer) {
		start := time.Now()
		done := make(chan time.Duration, 2)
		tell := func(error) { done <- time.Since(start) }
		c.Go(write("a"), tell)
		time.Sleep(time.Millisecond)
		c.Go(write("b"), tell)
		if took := <-done; took != e.took+2*time.Millisecond {
			t.Errorf("alone it took %v", took)
		}
		if <-done; len(e.batches) != 1 {
			t.Errorf("two functions went as %q", e.batches)
		}
		start = time.Now()
		c.Go(write("c"), tell)
		if err := c.Update(bg, write("d")); err != nil || time.Since(start) != e.took {
			t.Errorf("an Update after a Go took %v, %v", time.Since(start), err)
		}
	})
}

func TestWaitersShareTheNextSync(t *testing.T) {
	bubble(t, func(t *testing.T, e *slow, c *kv.Committer) {
		start := time.Now()
		go c.Update(bg, write("first"))
		time.Sleep(time.Millisecond)
		var all sync.WaitGroup
		for _, key := range []string{"b", "c", "d"} {
			all.Go(func() {
				if err := c.Update(bg, write(key)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(start); took != 2*e.took || len(e.batches) != 2 {
			t.Errorf("four writers took %v and went as %q", took, e.batches)
		}
	})
}

func TestBatchesAreSealedAtHalf(t *testing.T) {
	bubble(t, func(t *testing.T, e *slow, c *kv.Committer) {
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				if err := c.Update(bg, write(string(rune('a'+i)))); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, b := range e.batches {
			if len(b) > 5 {
				t.Errorf("a batch has %d rows, half of the limit is 5", len(b))
			}
		}
	})
}

// What a function read may be lost until it is synced; so nobody may act on it
// before, not even on an error.
func TestNoOutcomeBeforeWhatItReadIsStable(t *testing.T) {
	bubble(t, func(t *testing.T, e *slow, c *kv.Committer) {
		start := time.Now()
		go c.Update(bg, write("a"))
		time.Sleep(time.Millisecond)
		there := errors.New("it is there already")
		look := func(w kv.Writer) error {
			if _, err := w.Get([]byte("a")); err != nil {
				return err
			}
			return there
		}
		if err := c.Update(bg, look); !errors.Is(err, there) {
			t.Errorf("it did not see what is being synced: %v", err)
		}
		if took := time.Since(start); took < e.took {
			t.Errorf("it was told after %v, before what it read was stable", took)
		}
	})
}

func TestFailedSync(t *testing.T) {
	bubble(t, func(t *testing.T, e *slow, c *kv.Committer) {
		e.fault = errors.New("disk on fire")
		errs := make(chan error, 4)
		go func() { errs <- c.Update(bg, write("a")) }()
		time.Sleep(time.Millisecond)
		go func() { errs <- c.Update(bg, write("b")) }() // runs over what is being synced
		c.Go(write("c"), func(err error) { errs <- err })
		<-c.Failed()
		go func() { errs <- c.Update(bg, write("d")) }()
		for range 4 {
			if err := <-errs; !errors.Is(err, kv.ErrFailed) || !errors.Is(err, e.fault) {
				t.Errorf("after a failed sync comes %v", err)
			}
		}
		e.fault = nil
		if err := c.Update(bg, write("e")); !errors.Is(err, kv.ErrFailed) || len(e.rows) != 0 {
			t.Errorf("it goes on after a failed sync: %v, %q", err, e.rows)
		}
	})
}

func TestGoexitFailsTheStoreAndHangsNobody(t *testing.T) {
	bubble(t, func(t *testing.T, e *slow, c *kv.Committer) {
		errs := make(chan error, 3)
		for _, fn := range []func(kv.Writer) error{
			write("a"),
			func(kv.Writer) error { runtime.Goexit(); return nil },
			write("b"),
		} {
			c.Go(fn, func(err error) { errs <- err })
		}
		<-c.Failed()
		go c.Close()
		synctest.Wait()
		if len(errs) < 2 { // the one that ended the goroutine can tell nobody
			t.Errorf("%d of the others were told", len(errs))
		}
	})
}

func TestReservedKeys(t *testing.T) {
	bubble(t, func(t *testing.T, e *slow, c *kv.Committer) {
		if err := c.Update(bg, write("!engine!x")); err == nil {
			t.Error("a key of the engine was taken")
		}
	})
}

func BenchmarkCommitter(b *testing.B) {
	c := kv.NewCommitter(&slow{rows: map[string]string{}}, kv.Limits{Rows: 10_000, Bytes: 1 << 20})
	defer c.Close()
	b.ReportAllocs()
	b.SetParallelism(50)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := c.Update(bg, write("a")); err != nil {
				b.Error(err)
			}
		}
	})
}
