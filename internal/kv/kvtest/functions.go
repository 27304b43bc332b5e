package kvtest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"behalf/internal/kv"
)

func readYourWrites(t *testing.T, s kv.Store) {
	put(t, s, "old", "1", "dead", "1")
	err := s.Update(bg, func(w kv.Writer) error {
		read := func(key, want string) {
			t.Helper()
			v, err := w.Get([]byte(key))
			if got := string(v); err == nil && got != want || errors.Is(err, kv.ErrNotFound) != (want == "-") {
				t.Errorf("the writer reads %q %q %v, want %q", key, got, err, want)
			}
		}
		read("old", "1")
		for i := range 40 { // over the size at which a writer begins to index
			if err := w.Put([]byte(keyOf(i)), []byte("x")); err != nil {
				return err
			}
		}
		if err := errors.Join(w.Put([]byte("old"), []byte("2")), w.Put([]byte("new"), nil), w.Delete([]byte("dead"))); err != nil {
			return err
		}
		read("old", "2")
		read("new", "")
		read("dead", "-")
		read(keyOf(39), "x")
		if err := errors.Join(w.Delete([]byte("new")), w.Put([]byte("dead"), []byte("3"))); err != nil {
			return err
		}
		read("new", "-")
		read("dead", "3")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, s, "old", "2", "new", "-", "dead", "3", keyOf(0), "x")
}

// each runs n functions at once and gives their outcomes.
func each(s kv.Store, n int, fn func(i int, w kv.Writer) error) []error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			errs[i] = s.Update(bg, func(w kv.Writer) error { return fn(i, w) })
		})
	}
	all.Wait()
	return errs
}

func order(t *testing.T, s kv.Store) {
	// Each function must see the sum that those before it left, whether in its
	// batch, in the batch being synced or in the store.
	seen := map[string]bool{} // by the goroutine that runs functions, one at a time
	for _, err := range each(s, 300, func(i int, w kv.Writer) error {
		v, err := w.Get([]byte("log"))
		if err != nil && !errors.Is(err, kv.ErrNotFound) {
			return err
		}
		if seen[string(v)] {
			return fmt.Errorf("two functions saw the same state")
		}
		seen[string(v)] = true
		return w.Put([]byte("log"), append(v, byte('a'+i%26)))
	}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := get(t, s, "log"); len(got) != 300 {
		t.Errorf("%d of 300 writes are left", len(got))
	}
}

func failing(t *testing.T, s kv.Store) {
	put(t, s, "kept", "1")
	refusal := errors.New("refused")
	errs := each(s, 200, func(i int, w kv.Writer) error {
		if err := w.Put([]byte(keyOf(i)), nil); err != nil {
			return err
		}
		if i%3 == 0 {
			return errors.Join(w.Delete([]byte("kept")), refusal)
		}
		return nil
	})
	for i, err := range errs {
		if errors.Is(err, refusal) != (i%3 == 0) || err != nil && i%3 != 0 {
			t.Errorf("function %d got %v", i, err)
		}
		there := "-"
		if i%3 != 0 {
			there = ""
		}
		want(t, s, keyOf(i), there)
	}
	want(t, s, "kept", "1")
}

func panicking(t *testing.T, s kv.Store) {
	errs := each(s, 100, func(i int, w kv.Writer) error {
		if err := w.Put([]byte(keyOf(i)), nil); err != nil {
			return err
		}
		if i%5 == 0 {
			panic(fmt.Sprint("number ", i))
		}
		return nil
	})
	for i, err := range errs {
		switch {
		case i%5 == 0 && (err == nil || !strings.Contains(err.Error(), fmt.Sprint("number ", i))):
			t.Errorf("panic %d gave %v", i, err)
		case i%5 != 0 && err != nil:
			t.Errorf("function %d got %v", i, err)
		}
		there := "-"
		if i%5 != 0 {
			there = ""
		}
		want(t, s, keyOf(i), there)
	}
}

func stale(t *testing.T, s kv.Store) {
	var kept kv.Writer
	if err := s.Update(bg, func(w kv.Writer) error { kept = w; return nil }); err != nil {
		t.Fatal(err)
	}
	if kept.Put([]byte("late"), nil) == nil {
		t.Error("a writer still takes writes after its function returned")
	}
	put(t, s, "a", "1")
	want(t, s, "late", "-", "a", "1")
}

func tooBig(t *testing.T, s kv.Store) {
	value := make([]byte, 64<<10)
	err := s.Update(bg, func(w kv.Writer) error {
		for i := range 10_000 {
			if err := w.Put([]byte(keyOf(i)), value); err != nil {
				return err
			}
		}
		return nil
	})
	if !errors.Is(err, kv.ErrTooBig) {
		t.Fatalf("640 MB at once gives %v", err)
	}
	err = s.Update(bg, func(w kv.Writer) error {
		for i := range 2_000_000 {
			if err := w.Delete([]byte(keyOf(i))); err != nil {
				return err
			}
		}
		return nil
	})
	if !errors.Is(err, kv.ErrTooBig) {
		t.Fatalf("two million deletes at once give %v", err)
	}
	want(t, s, keyOf(0), "-")
	put(t, s, "after", "1")
	want(t, s, "after", "1")
}

func largeBatches(t *testing.T, s kv.Store) {
	// Each takes most of what a commit can hold, so none fits with another.
	value := make([]byte, 400<<10)
	for i, err := range each(s, 24, func(i int, w kv.Writer) error {
		for part := range 4 {
			if err := w.Put(fmt.Appendf(nil, "%s/%d", keyOf(i), part), value); err != nil {
				return err
			}
		}
		n := get64(w, "count")
		return put64(w, "count", n+1)
	}) {
		if err != nil {
			t.Errorf("function %d got %v", i, err)
		}
	}
	n := 0
	err := s.View(bg, func(r kv.Reader) error {
		n = int(get64(r, "count"))
		return nil
	})
	if err != nil || n != 24 {
		t.Errorf("%d of 24 functions counted, %v", n, err)
	}
	want(t, s, keyOf(23)+"/3", string(value))
}

func manyRows(t *testing.T, s kv.Store) {
	const rows = 20_000 // what a message with the most recipients needs, and more
	err := s.Update(bg, func(w kv.Writer) error {
		for i := range rows {
			if err := w.Put([]byte(keyOf(i)), []byte("due")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, s, keyOf(0), "due", keyOf(rows-1), "due")
}
