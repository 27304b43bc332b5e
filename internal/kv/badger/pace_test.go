package badger

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"

	"behalf/internal/kv"
)

// Badger must tell of each table that a merge makes, or nothing is paced.
func TestMergesAreTold(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for from := 0; from < 6000; from += 200 { // 12 MB: more than the table in memory
		err := s.Update(t.Context(), func(w kv.Writer) (err error) {
			for i := from; i < from+200 && err == nil; i++ {
				err = w.Put(fmt.Appendf(nil, "row/%06d", i), bytes.Repeat([]byte{byte(i)}, 2<<10))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	s.tidy.sendOn()
	s.tidy.merge()
	if s.pace.told.Load() == 0 {
		t.Error("Badger told of no table")
	}
}

func TestMergePause(t *testing.T) {
	for _, c := range []struct {
		took   time.Duration
		tables int
		want   time.Duration
	}{
		{20 * time.Millisecond, 0, mergeRest},
		{20 * time.Millisecond, newTables, mergeRest},
		{20 * time.Millisecond, newTables + 2, mergeRest / 2},
		{time.Millisecond, 0, 4 * time.Millisecond},
		{20 * time.Millisecond, mergesBehind, 0},
		{20 * time.Millisecond, mergesBehind + 9, 0},
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
		if p.flushed(flushStep) != 0 || elapsed() != 0 {
			t.Error("a flush rests while the store opens")
		}
		p.begin(new(badgerdb.DB)) // of which a flush asks nothing
		if p.flushed(flushStep-1) != flushStep-1 || elapsed() != 0 {
			t.Error("a flush rests too soon")
		}
		if p.flushed(flushStep) != 0 || elapsed() != flushRest {
			t.Errorf("a flush rested for %v", elapsed())
		}
		p.hurried.Store(true)
		if p.flushed(flushStep); elapsed() != flushRest {
			t.Error("a flush rests while a commit waits for it")
		}
		p.hurried.Store(false)
		if a, b := p.turn(time.Second), p.turn(time.Second); a != time.Second || b != 2*time.Second {
			t.Errorf("two merges wait %v and %v", a, b)
		}
		p.end()
		if p.rest(time.Hour); elapsed() != flushRest {
			t.Error("somebody rests while the store closes")
		}
	})
}

// What Badger tells otherwise is no reason to rest, whatever it looks like.
func TestOtherNotices(t *testing.T) {
	p := newPacer()
	l := logger{slog.New(slog.DiscardHandler), p}
	l.Debugf("Flushing memtable")
	l.Debugf(mergedNotice)
	l.Debugf(mergedNotice+" %d", 7)
	if n := p.told.Load(); n != 0 {
		t.Errorf("%d tables were told", n)
	}
	l.Debugf(mergedNotice+" %v", time.Second)
	if n := p.told.Load(); n != 1 {
		t.Errorf("%d tables were told, not one", n)
	}
}
