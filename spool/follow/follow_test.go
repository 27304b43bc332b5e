package follow_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	blobmem "behalf/internal/blob/mem"
	"behalf/internal/kv"
	"behalf/internal/kv/mem"
	"behalf/mail"
	"behalf/spool"
	"behalf/spool/follow"
)

func open(t *testing.T, st kv.Store) *spool.Spool {
	t.Helper()
	sp, err := spool.Open(t.Context(), st, blobmem.New(), spool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return sp
}

// tell appends n events.
func tell(t *testing.T, sp *spool.Spool, n int) {
	t.Helper()
	for range n {
		err := sp.Update(t.Context(), func(w kv.Writer) error { return sp.Append(w, mail.Event{Type: "test.event"}) })
		if err != nil {
			t.Fatal(err)
		}
	}
}

// row is the effect of an event: it counts how often that was written.
func row(w kv.Writer, e mail.Event) error {
	key := fmt.Appendf(nil, "row/%08d", e.Seq)
	b, err := w.Get(key)
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	return w.Put(key, append(bytes.Clone(b), 'x'))
}

func handle(w kv.Writer, es []mail.Event) error {
	for _, e := range es {
		if err := row(w, e); err != nil {
			return err
		}
	}
	return nil
}

// rows gives the numbers of the events that had their effect, once each.
func rows(t *testing.T, st kv.Store) []uint64 {
	t.Helper()
	var out []uint64
	err := st.View(t.Context(), func(r kv.Reader) error {
		return r.Scan(kv.Range{Prefix: []byte("row/")}, func(k, v []byte) bool {
			var seq uint64
			fmt.Sscanf(string(k), "row/%d", &seq)
			if len(v) != 1 {
				t.Errorf("event %d had its effect %d times", seq, len(v))
			}
			out = append(out, seq)
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// start runs a follower; the function it gives stops it.
func start(t *testing.T, f *follow.Follower) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestFollowsFromItsCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		defer st.Close()
		sp := open(t, st)
		tell(t, sp, 5) // before the follower is known: not its business
		f := follow.New(sp, st, "test", handle, follow.Options{Batch: 10})
		if err := f.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		tell(t, sp, 25)
		if f.Lag() != 25 {
			t.Errorf("lag %d, want 25", f.Lag())
		}
		stop := start(t, f)
		synctest.Wait()
		if f.Lag() != 0 {
			t.Errorf("lag %d, want 0", f.Lag())
		}
		tell(t, sp, 1)
		synctest.Wait()
		stop()
		tell(t, sp, 3) // while it is away
		sp = open(t, st)
		stop = start(t, follow.New(sp, st, "test", handle, follow.Options{}))
		tell(t, sp, 2) // with numbers of a new block
		synctest.Wait()
		stop()
		got := rows(t, st)
		if len(got) != 31 || got[0] != 6 || !slices.IsSorted(got) {
			t.Errorf("effects of %v", got)
		}
	})
}

// An event whose handling fails is tried until it works: those before it have
// their effect, those behind wait.
func TestNeverSkips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		defer st.Close()
		sp := open(t, st)
		var broken atomic.Bool
		broken.Store(true)
		f := follow.New(sp, st, "test", func(w kv.Writer, es []mail.Event) error {
			for _, e := range es {
				if e.Seq == 13 && broken.Load() {
					return errors.New("cannot")
				}
				if err := row(w, e); err != nil {
					return err
				}
			}
			return nil
		}, follow.Options{})
		if err := f.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		tell(t, sp, 20)
		stop := start(t, f)
		time.Sleep(10 * time.Minute)
		if got := rows(t, st); len(got) != 12 {
			t.Errorf("effects of %v while 13 cannot be handled", got)
		}
		if f.Lag() != 8 {
			t.Errorf("lag %d, want 8", f.Lag())
		}
		broken.Store(false)
		time.Sleep(time.Minute)
		stop()
		if got := rows(t, st); len(got) != 20 {
			t.Errorf("effects of %v in the end", got)
		}
	})
}

// Over power cuts every event has its effect exactly once.
func TestPowerCuts(t *testing.T) {
	st := mem.New(mem.Options{Sync: 100 * time.Microsecond})
	sp := open(t, st)
	f := follow.New(sp, st, "test", handle, follow.Options{Batch: 7})
	if err := f.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	for round := range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		for range 30 { // some of them get through
			sp.Update(ctx, func(w kv.Writer) error { return sp.Append(w, mail.Event{Type: "test.event"}) })
			if round%2 == 0 {
				time.Sleep(50 * time.Microsecond)
			}
		}
		next := st.Cut(round%3 == 0)
		cancel()
		<-done
		st.Close()
		st, sp = next, open(t, next)
		f = follow.New(sp, st, "test", handle, follow.Options{Batch: 7})
	}
	defer st.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	tell(t, sp, 1)
	for deadline := time.Now().Add(time.Minute); f.Lag() != 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-done
	var want []uint64
	for from := uint64(0); ; {
		es, next, err := sp.Events(t.Context(), from, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			want = append(want, e.Seq)
		}
		if from = next; len(es) == 0 {
			break
		}
	}
	if got := rows(t, st); len(want) < 50 || !slices.Equal(got, want) {
		t.Errorf("effects of %d events, want %d", len(got), len(want))
	}
}

// Two followers of one name would each see half: the second stands still.
func TestOneOfAName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		defer st.Close()
		sp := open(t, st)
		a := follow.New(sp, st, "test", handle, follow.Options{})
		b := follow.New(sp, st, "test", handle, follow.Options{})
		for _, f := range []*follow.Follower{a, b} {
			if err := f.Prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer start(t, f)()
		}
		tell(t, sp, 10)
		time.Sleep(time.Minute)
		if got := rows(t, st); len(got) != 10 {
			t.Errorf("effects of %v", got)
		}
	})
}

// What cannot be committed at once is handled in smaller batches.
func TestTooBig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		defer st.Close()
		sp := open(t, st)
		f := follow.New(sp, st, "test", func(w kv.Writer, es []mail.Event) error {
			for _, e := range es {
				key := binary.BigEndian.AppendUint64([]byte("big/"), e.Seq)
				if err := w.Put(key, make([]byte, 200<<10)); err != nil {
					return err
				}
			}
			return handle(w, es)
		}, follow.Options{})
		if err := f.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		tell(t, sp, 100)
		stop := start(t, f)
		time.Sleep(10 * time.Minute)
		stop()
		if got := rows(t, st); len(got) != 100 {
			t.Errorf("effects of %d events, want 100", len(got))
		}
	})
}

func TestEndsWithTheStore(t *testing.T) {
	st := mem.New(mem.Options{})
	sp := open(t, st)
	f := follow.New(sp, st, "test", handle, follow.Options{})
	if err := f.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	tell(t, sp, 1)
	next := st.Cut(false)
	defer next.Close()
	defer st.Close()
	if err := f.Run(t.Context()); err == nil {
		t.Error("Run goes on though the store has failed")
	}
}

// cursor is the saved cursor of the follower.
func cursor(t *testing.T, st kv.Store, sp *spool.Spool) uint64 {
	t.Helper()
	var at uint64
	err := st.View(t.Context(), func(r kv.Reader) error {
		b, err := r.Get(sp.Cursor("test"))
		if err == nil {
			at = binary.BigEndian.Uint64(b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// For events without an effect nothing is committed, until the saved cursor
// would stay too far behind; those that have one have it once all the same.
func TestNothingIsCommittedForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		defer st.Close()
		sp := open(t, st)
		only := func(w kv.Writer, es []mail.Event) error {
			for _, e := range es {
				if e.Type == "test.row" {
					if err := row(w, e); err != nil {
						return err
					}
				}
			}
			return nil
		}
		f := follow.New(sp, st, "test", only, follow.Options{})
		if err := f.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := cursor(t, st, sp)
		stop := start(t, f)
		tell(t, sp, 50)
		synctest.Wait()
		if f.Lag() != 0 || cursor(t, st, sp) != began {
			t.Errorf("lag %d, cursor %d, want 0 and %d", f.Lag(), cursor(t, st, sp), began)
		}
		write := func() {
			err := sp.Update(t.Context(), func(w kv.Writer) error { return sp.Append(w, mail.Event{Type: "test.row"}) })
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		write()
		if got := cursor(t, st, sp); got != began+51 {
			t.Errorf("cursor %d after an effect, want %d", got, began+51)
		}
		tell(t, sp, 50)
		synctest.Wait()
		stop()
		stop = start(t, follow.New(sp, st, "test", only, follow.Options{}))
		synctest.Wait()
		write()
		for range 50 {
			tell(t, sp, 100)
			synctest.Wait()
		}
		stop()
		if got := cursor(t, st, sp); got < began+1000 {
			t.Errorf("cursor %d after 5000 events without an effect", got)
		}
		if got := rows(t, st); len(got) != 2 {
			t.Errorf("effects of %v", got)
		}
	})
}

// A follower of some types is not shown others, and passes over them.
func TestTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		defer st.Close()
		sp := open(t, st)
		f := follow.New(sp, st, "test", handle, follow.Options{Choice: spool.Choice{Types: []mail.EventType{"test.row"}}})
		if err := f.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		id := sp.NewID(1, time.Now())
		for i := range 20 {
			e := mail.Event{Type: "test.event", Message: id}
			if i%10 == 3 {
				e.Type = "test.row"
			}
			if err := sp.Update(t.Context(), func(w kv.Writer) error { return sp.Append(w, e) }); err != nil {
				t.Fatal(err)
			}
		}
		stop := start(t, f)
		synctest.Wait()
		stop()
		if got := rows(t, st); len(got) != 2 || f.Lag() != 0 {
			t.Errorf("effects of %v, lag %d", got, f.Lag())
		}
	})
}

// Events wait for company, but not for long.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		defer st.Close()
		sp := open(t, st)
		var batches []int
		f := follow.New(sp, st, "test", func(w kv.Writer, es []mail.Event) error {
			batches = append(batches, len(es))
			return nil
		}, follow.Options{Linger: 10 * time.Millisecond})
		stop := start(t, f)
		synctest.Wait()
		for range 3 {
			tell(t, sp, 1)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(10 * time.Millisecond)
		stop()
		if !slices.Equal(batches, []int{3}) {
			t.Errorf("batches of %v", batches)
		}
	})
}
