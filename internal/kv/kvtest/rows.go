package kvtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"behalf/internal/kv"
)

func empty(t *testing.T, s kv.Store) {
	want(t, s, "a", "-", strings.Repeat("k", kv.MaxKey+1), "-", "", "-")
	if got := scan(t, s, kv.Range{}); got != "" {
		t.Errorf("an empty store has rows %s", got)
	}
	err := s.View(bg, func(r kv.Reader) error {
		_, err := r.Get([]byte("a"))
		return fmt.Errorf("wrapped: %w", err)
	})
	if !errors.Is(err, kv.ErrNotFound) {
		t.Errorf("View gives %v, want what its function gave", err)
	}
}

func putGetDelete(t *testing.T, s kv.Store) {
	put(t, s, "a", "1", "b", "", "\x00", "nul", "\xff\xff", "high")
	want(t, s, "a", "1", "b", "", "\x00", "nul", "\xff\xff", "high", "ab", "-")
	put(t, s, "a", "2")
	want(t, s, "a", "2", "b", "")
	err := s.Update(bg, func(w kv.Writer) error {
		if err := w.Delete([]byte("never there")); err != nil {
			return err
		}
		return w.Delete([]byte("a"))
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, s, "a", "-", "b", "")
	put(t, s, "a", "3")
	want(t, s, "a", "3")
	long := strings.Repeat("k", kv.MaxKey)
	big := strings.Repeat("v", kv.MaxValue)
	put(t, s, long, big)
	want(t, s, long, big)
}

func slices(t *testing.T, s kv.Store) {
	key, value := []byte("key"), []byte("value")
	err := s.Update(bg, func(w kv.Writer) error {
		if err := w.Put(key, value); err != nil {
			return err
		}
		copy(key, "xxx")
		copy(value, "xxxxx")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, s, "key", "value", "xxx", "-")
}

func scan(t *testing.T, s kv.Store, r kv.Range) string {
	t.Helper()
	var out []string
	err := s.View(bg, func(rd kv.Reader) error {
		return rd.Scan(r, func(k, v []byte) bool {
			if r.KeysOnly != (v == nil) && (r.KeysOnly || len(v) > 0) {
				t.Errorf("%q has value %q with KeysOnly %v", k, v, r.KeysOnly)
			}
			out = append(out, string(k))
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, " ")
}

func scans(t *testing.T, s kv.Store) {
	put(t, s, "b2", "4", "a", "1", "b", "2", "b1", "3", "b3", "", "c", "6", "c\xff", "7", "c\xff\xff", "8", "d", "9", "gone", "")
	if err := s.Update(bg, func(w kv.Writer) error { return w.Delete([]byte("gone")) }); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		r    kv.Range
		want string
	}{
		{kv.Range{}, "a b b1 b2 b3 c c\xff c\xff\xff d"},
		{kv.Range{Reverse: true}, "d c\xff\xff c\xff c b3 b2 b1 b a"},
		{kv.Range{Prefix: []byte("b")}, "b b1 b2 b3"},
		{kv.Range{Prefix: []byte("b"), Reverse: true}, "b3 b2 b1 b"},
		{kv.Range{Prefix: []byte("b"), From: []byte("b2")}, "b2 b3"},
		{kv.Range{Prefix: []byte("b"), From: []byte("b11")}, "b2 b3"},
		{kv.Range{Prefix: []byte("b"), From: []byte("b2"), Reverse: true}, "b2 b1 b"},
		{kv.Range{Prefix: []byte("b"), From: []byte("b21"), Reverse: true}, "b2 b1 b"},
		{kv.Range{Prefix: []byte("b"), From: []byte("a")}, "b b1 b2 b3"},
		{kv.Range{Prefix: []byte("b"), From: []byte("c")}, ""},
		{kv.Range{Prefix: []byte("b"), From: []byte("c"), Reverse: true}, "b3 b2 b1 b"},
		{kv.Range{Prefix: []byte("b"), From: []byte("a"), Reverse: true}, ""},
		{kv.Range{Prefix: []byte("c\xff")}, "c\xff c\xff\xff"},
		{kv.Range{Prefix: []byte("c\xff"), Reverse: true}, "c\xff\xff c\xff"},
		{kv.Range{Prefix: []byte("c"), Reverse: true}, "c\xff\xff c\xff c"},
		{kv.Range{From: []byte("b3")}, "b3 c c\xff c\xff\xff d"},
		{kv.Range{From: []byte("b3"), Reverse: true}, "b3 b2 b1 b a"},
		{kv.Range{Prefix: []byte("b"), KeysOnly: true}, "b b1 b2 b3"},
		{kv.Range{Prefix: []byte("b"), KeysOnly: true, Reverse: true}, "b3 b2 b1 b"},
		{kv.Range{Prefix: []byte("e")}, ""},
		{kv.Range{Prefix: []byte("gone")}, ""},
	} {
		if got := scan(t, s, c.r); got != c.want {
			t.Errorf("scan %q from %q reverse %v gives %q, want %q", c.r.Prefix, c.r.From, c.r.Reverse, got, c.want)
		}
	}
	var n int
	err := s.View(bg, func(r kv.Reader) error {
		return r.Scan(kv.Range{}, func(k, v []byte) bool { n++; return n < 3 })
	})
	if err != nil || n != 3 {
		t.Errorf("a scan that was stopped at 3 visited %d: %v", n, err)
	}
}

func fill(t *testing.T, s kv.Store, n int) {
	t.Helper()
	for i := 0; i < n; i += 1000 {
		err := s.Update(bg, func(w kv.Writer) error {
			for j := i; j < min(i+1000, n); j++ {
				if err := w.Put([]byte(keyOf(j)), []byte(keyOf(j))); err != nil {
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

func scanContext(t *testing.T, s kv.Store) {
	fill(t, s, 3000)
	ctx, cancel := context.WithCancel(bg)
	n := 0
	err := s.View(ctx, func(r kv.Reader) error {
		return r.Scan(kv.Range{}, func(k, v []byte) bool {
			if n++; n == 10 {
				cancel()
			}
			return true
		})
	})
	if !errors.Is(err, context.Canceled) || n == 3000 {
		t.Errorf("a cancelled scan visited %d rows and gave %v", n, err)
	}
	if err := s.View(ctx, func(kv.Reader) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("View with a context that ended gives %v", err)
	}
}

func longScan(t *testing.T, s kv.Store) {
	const rows = 20_000
	fill(t, s, rows)
	for _, reverse := range []bool{false, true} {
		var last []byte
		n := 0
		err := s.View(bg, func(r kv.Reader) error {
			return r.Scan(kv.Range{Prefix: []byte("key/"), Reverse: reverse}, func(k, v []byte) bool {
				if !bytes.Equal(k, v) {
					t.Errorf("%q holds %q", k, v)
				}
				if c := bytes.Compare(last, k); last != nil && (c < 0) == reverse {
					t.Fatalf("%q after %q", k, last)
				}
				last = append(last[:0], k...)
				n++
				return true
			})
		})
		if err != nil || n != rows {
			t.Errorf("visited %d of %d: %v", n, rows, err)
		}
	}
}

func snapshot(t *testing.T, s kv.Store) {
	put(t, s, "a", "1", "b", "1")
	err := s.View(bg, func(r kv.Reader) error {
		put(t, s, "a", "2", "b", "2", "c", "2")
		for _, key := range []string{"a", "b"} {
			if v, err := r.Get([]byte(key)); err != nil || string(v) != "1" {
				t.Errorf("a view begun before the change reads %q %v", v, err)
			}
		}
		return r.Scan(kv.Range{}, func(k, v []byte) bool {
			if string(v) != "1" {
				t.Errorf("a view begun before the change visits %q %q", k, v)
			}
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, s, "a", "2", "b", "2", "c", "2")
}

func limits(t *testing.T, s kv.Store) {
	for name, write := range map[string]func(kv.Writer) error{
		"an empty key":     func(w kv.Writer) error { return w.Put(nil, nil) },
		"a key too long":   func(w kv.Writer) error { return w.Put(make([]byte, kv.MaxKey+1), nil) },
		"a value too long": func(w kv.Writer) error { return w.Put([]byte("v"), make([]byte, kv.MaxValue+1)) },
		"no life":          func(w kv.Writer) error { return w.PutFor([]byte("l"), nil, 0) },
		"an empty delete":  func(w kv.Writer) error { return w.Delete(nil) },
	} {
		err := s.Update(bg, func(w kv.Writer) error {
			if err := w.Put([]byte("before"), nil); err != nil {
				return err
			}
			if err := write(w); err == nil {
				t.Errorf("%s is taken", name)
			}
			return nil // a refusal that is ignored still fails the function
		})
		if err == nil {
			t.Errorf("%s: the update went through", name)
		}
	}
	want(t, s, "before", "-", "v", "-", "l", "-")
}

func lives(t *testing.T, s kv.Store) {
	err := s.Update(bg, func(w kv.Writer) error {
		if err := w.PutFor([]byte("short"), []byte("1"), time.Second); err != nil {
			return err
		}
		if v, err := w.Get([]byte("short")); err != nil || string(v) != "1" {
			t.Errorf("its own writer reads %q %v", v, err)
		}
		if err := w.PutFor([]byte("renewed"), []byte("1"), time.Second); err != nil {
			return err
		}
		return w.PutFor([]byte("long"), []byte("1"), time.Hour)
	})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "renewed", "2")
	want(t, s, "short", "1", "renewed", "2", "long", "1")
	time.Sleep(2100 * time.Millisecond)
	want(t, s, "short", "-", "renewed", "2", "long", "1")
	if got := scan(t, s, kv.Range{}); got != "long renewed" {
		t.Errorf("after its life a scan still gives %s", got)
	}
	err = s.Update(bg, func(w kv.Writer) error {
		if _, err := w.Get([]byte("short")); !errors.Is(err, kv.ErrNotFound) {
			t.Errorf("after its life a writer reads it: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// newRows: PutNew is Put, also where a row was before it.
func newRows(t *testing.T, s kv.Store) {
	do := func(fns ...func(w kv.Writer) error) {
		t.Helper()
		for _, fn := range fns {
			if err := s.Update(bg, fn); err != nil {
				t.Fatal(err)
			}
		}
	}
	putNew := func(w kv.Writer) error { return w.PutNew([]byte("a"), []byte("new")) }
	del := func(w kv.Writer) error { return w.Delete([]byte("a")) }
	both := func(w kv.Writer) error { return errors.Join(del(w), putNew(w)) }
	do(putNew)
	want(t, s, "a", "new")
	do(del)
	want(t, s, "a", "-")
	do(putNew, both)
	want(t, s, "a", "new")
	put(t, s, "a", "2")
	want(t, s, "a", "2")
	do(both, del)
	want(t, s, "a", "-")
	do(func(w kv.Writer) error { return errors.Join(putNew(w), del(w)) })
	want(t, s, "a", "-")
}
