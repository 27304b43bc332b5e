package limit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"behalf/internal/kv"
	"behalf/internal/kv/mem"
)

var errFlaky = errors.New("the store is flaky")

// flaky is a store of which every eighth write fails, whole, while fail is set.
type flaky struct {
	kv.Store
	fail bool
}

func (s *flaky) Update(ctx context.Context, fn func(kv.Writer) error) error {
	if s.fail && rand.IntN(8) == 0 {
		return errFlaky
	}
	return s.Store.Update(ctx, fn)
}

// arrivals are what a start would find: the arrival times of all keys that are
// not full.
func arrivals(t *testing.T, store kv.Store) map[Key]int64 {
	t.Helper()
	l := New(Options{})
	if err := l.Load(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	return l.arrivals()
}

func (l *Limiter) arrivals() map[Key]int64 {
	all, now := map[Key]int64{}, time.Now().UnixNano()
	for i := range l.shards {
		s := &l.shards[i]
		for j, m := range s.marks {
			if m != 0 && s.rows[j].tat > now {
				all[s.rows[j].key] = s.rows[j].tat
			}
		}
	}
	return all
}

// TestPagesModel: at any time a start finds all that the last snapshot which went
// well found, however often old pages were written anew; and they stay bounded.
func TestPagesModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		under := mem.New(mem.Options{})
		defer under.Close()
		store := &flaky{Store: under}
		l := New(Options{})
		keys := make([]Key, 4000)
		for i := range keys {
			keys[i] = KeyOf(fmt.Sprint(i))
		}
		changed := map[Key]bool{} // since a snapshot that went well
		dropped := 0
		for round := range 250 {
			for range rand.IntN(1500) {
				// Half of the keys change seldom.
				k := keys[rand.IntN(len(keys)/2)]
				if rand.IntN(50) == 0 {
					k = keys[rand.IntN(len(keys))]
				}
				r, v := reserve(l, time.Now(), []Ask{{Key: k, Rate: 100, Per: 100 * time.Minute, Burst: 1e6, N: 1 + rand.Int64N(20)}})
				if changed[k] = true; v.OK && rand.IntN(3) == 0 {
					r.Abort(time.Now())
				}
			}
			before := len(l.pages.held)
			store.fail = round%10 > 5
			if err := l.Snapshot(t.Context(), store); err == nil {
				clear(changed)
			} else if !errors.Is(err, errFlaky) {
				t.Fatal(err)
			}
			if len(l.pages.held) < before {
				dropped++
			}
			got, want := arrivals(t, under), l.arrivals()
			for k, at := range want {
				if !changed[k] && got[k] != at {
					t.Fatalf("round %d: a start finds %d, want %d", round, got[k], at)
				}
			}
			for k, at := range got {
				if !changed[k] && want[k] != at {
					t.Fatalf("round %d: a start finds %d, which is not there", round, at)
				}
			}
			if rows := rowsOf(t, under, tablePage); rows != len(l.pages.held) {
				t.Fatalf("round %d: %d pages, want %d", round, rows, len(l.pages.held))
			}
			if most := 2*len(keys) + fewKeys + 4*page; l.pages.keys > most {
				t.Fatalf("round %d: pages hold %d keys of %d", round, l.pages.keys, len(keys))
			}
			time.Sleep(time.Duration(rand.IntN(20)) * time.Second)
		}
		if dropped == 0 {
			t.Error("no page was dropped")
		}
	})
}

// TestSmallPages: pages of a key each do not pile up.
func TestSmallPages(t *testing.T) {
	store := mem.New(mem.Options{})
	defer store.Close()
	l := New(Options{})
	cold, hot := Ask{Key: KeyOf("cold"), Rate: 1, Per: time.Hour, Burst: 5}, Ask{Key: KeyOf("hot"), Rate: 1, Per: time.Hour, Burst: 1e6}
	reserve(l, time.Now(), []Ask{cold})
	for range 3 * fewPages {
		reserve(l, time.Now(), []Ask{hot})
		if err := l.Snapshot(t.Context(), store); err != nil {
			t.Fatal(err)
		}
	}
	if n := rowsOf(t, store, tablePage); n > fewPages+2 {
		t.Errorf("%d pages", n)
	}
	if got := arrivals(t, store); len(got) != 2 || got[cold.Key] == 0 {
		t.Errorf("a start finds %d keys", len(got))
	}
}

// TestConvert: what an earlier version wrote holds, and gives way to pages.
func TestConvert(t *testing.T) {
	store := mem.New(mem.Options{})
	defer store.Close()
	a, b := KeyOf("a"), KeyOf("b")
	until := time.Now().Add(time.Hour).UnixNano()
	err := store.Update(t.Context(), func(w kv.Writer) error {
		for _, r := range []row{{a, until}, {b, 1}} {
			if err := w.PutFor(keyLimit(r.key), binary.BigEndian.AppendUint64(nil, uint64(r.tat)), time.Hour); err != nil {
				return err
			}
		}
		return w.Put([]byte("gibberish"), []byte("in the way"))
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := arrivals(t, store); len(got) != 1 || got[a] != until {
			t.Errorf("a start finds %v", got)
		}
		if old, pages := rowsOf(t, store, tableLimit), rowsOf(t, store, tablePage); old != 0 || pages != 1 {
			t.Errorf("%d old rows and %d pages", old, pages)
		}
	}
}

// FuzzPage: no page breaks a load.
func FuzzPage(f *testing.F) {
	f.Add(encodePage([]row{{KeyOf("a"), 5}, {KeyOf("b"), 1 << 60}}))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, page []byte) {
		n := 0
		eachPair(page, func(r row) {
			if n++; r.tat <= 0 {
				t.Errorf("%+v", r)
			}
		})
		if n > len(page)/pairSize {
			t.Errorf("%d pairs of %d bytes", n, len(page))
		}
	})
}

// A version of before, which knows no pages, ran in between: its rows are newer.
func TestRowsAfterPages(t *testing.T) {
	for name, c := range map[string]struct {
		before, between int64 // of 100 a day
		want            bool
	}{
		"used up meanwhile":    {10, 100, false},
		"full again meanwhile": {100, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := mem.New(mem.Options{})
				defer store.Close()
				k := KeyOf("tenant/acme")
				ask := Ask{Key: k, Rate: 100, Per: 24 * time.Hour, Burst: 100, N: c.before}
				l := New(Options{})
				reserve(l, time.Now(), []Ask{ask})
				if err := l.Snapshot(t.Context(), store); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				tat := time.Now().Add(time.Duration(c.between) * 24 * time.Hour / 100)
				if err := store.Update(t.Context(), func(w kv.Writer) error {
					return w.PutFor(keyLimit(k), binary.BigEndian.AppendUint64(nil, uint64(tat.UnixNano())), 25*time.Hour)
				}); err != nil {
					t.Fatal(err)
				}
				for range 2 { // the first start writes pages of the rows, the second reads them
					l = New(Options{})
					if err := l.Load(t.Context(), store); err != nil {
						t.Fatal(err)
					}
				}
				ask.N = 10
				if _, v := reserve(l, time.Now(), []Ask{ask}); v.OK != c.want {
					t.Errorf("%+v", v)
				}
			})
		})
	}
}
