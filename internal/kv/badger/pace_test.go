package badger

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"

	"behalf/internal/kv"
)

// Badger must tell of each table that a merge makes, or nothing is paced.
func TestMergesRest(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	putRows(t, s, 0, 6000) // more than a table in memory
	s.tidy.sendOn()
	s.tidy.merge()
	s.pace.mu.Lock()
	defer s.pace.mu.Unlock()
	if s.pace.restsEnd.IsZero() {
		t.Error("Badger merged and told nothing of it")
	}
}

// putRows commits 2 KiB for each number, in small steps.
func putRows(t *testing.T, s *Store, from, to int) {
	t.Helper()
	for ; from < to; from += 10 {
		err := s.Update(t.Context(), func(w kv.Writer) (err error) {
			for i := from; i < from+10 && err == nil; i++ {
				err = w.Put(fmt.Appendf(nil, "row/%06d", i), bytes.Repeat([]byte{byte(i)}, 2<<10))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A store paces what it does from Open to Close, and a flush is told when the
// log that is written meanwhile gets full.
func TestStoreIsPaced(t *testing.T) {
	s, err := Open(t.TempDir(), Options{logSize: 440 << 10})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	s.pace.note(mergedNotice, []any{time.Second})
	if took := time.Since(start); took < mergeRest {
		t.Errorf("a merge rested for %v", took)
	}
	for i, want := range []bool{false, false, true, true, false} { // 100 KB each
		putRows(t, s, i*50, i*50+50)
		if got := s.pace.hurried.Load(); got != want {
			t.Errorf("after %d rows the flush is in a hurry: %v", i*50+50, got)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.pace.over:
	default:
		t.Error("a closed store is still paced")
	}
}

func TestMergePause(t *testing.T) {
	for _, c := range []struct {
		took   time.Duration
		tables int
		want   time.Duration
	}{
		{25 * time.Millisecond, 0, mergeRest},
		{25 * time.Millisecond, newTables, mergeRest},
		{25 * time.Millisecond, newTables + 2, mergeRest / 2},
		{time.Millisecond, 0, 4 * time.Millisecond},
		{25 * time.Millisecond, mergesBehind, 0},
		{25 * time.Millisecond, mergesBehind + 9, 0},
	} {
		if got := mergePause(c.took, c.tables); got != c.want {
			t.Errorf("after %v, with %d new tables: %v, not %v", c.took, c.tables, got, c.want)
		}
	}
}

// Merges rest one after the other, a flush after each step of rows; neither once
// the store closes, a flush neither while a commit waits for it.
func TestPacer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		start := time.Now()
		elapsed := func() time.Duration { return time.Since(start) }
		if p.afterRow(flushStep) != 0 || elapsed() != 0 {
			t.Error("a flush rests while the store opens")
		}
		p.begin(new(badgerdb.DB)) // of which a flush asks nothing
		if p.afterRow(flushStep-1) != flushStep-1 || elapsed() != 0 {
			t.Error("a flush rests too soon")
		}
		if p.afterRow(flushStep) != 0 || elapsed() != flushRest {
			t.Errorf("a flush rested for %v", elapsed())
		}
		p.hurried.Store(true)
		if p.afterRow(flushStep); elapsed() != flushRest {
			t.Error("a flush rests while a commit waits for it")
		}
		p.hurried.Store(false)
		if a, b := p.inTurn(time.Second), p.inTurn(time.Second); a != time.Second || b != 2*time.Second {
			t.Errorf("two merges wait %v and %v", a, b)
		}
		p.end()
		if p.rest(time.Hour); elapsed() != flushRest {
			t.Error("somebody rests while the store closes")
		}
	})
}

func TestMerged(t *testing.T) {
	for _, c := range []struct {
		format string
		args   []any
		want   time.Duration
	}{
		{mergedNotice + " %d keys. Iteration took: %v", []any{1, 2, time.Second}, time.Second},
		{mergedNotice + " %d", []any{7}, 0},
		{mergedNotice, nil, 0},
		{"Flushing memtable: %v", []any{time.Second}, 0},
	} {
		if got := merged(c.format, c.args); got != c.want {
			t.Errorf("%q: %v, not %v", c.format, got, c.want)
		}
	}
}
