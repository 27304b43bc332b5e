package limit

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"behalf/internal/kv"
	"behalf/internal/kv/mem"
)

var start = time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)

// reserve reserves by itself.
func reserve(l *Limiter, now time.Time, asks []Ask) (*Reservation, Verdict) {
	r := new(Reservation)
	v := l.Reserve(now, asks, r)
	return r, v
}

func at(d time.Duration) time.Time { return start.Add(d) }

// TestGCRA plays requests against one limit and shows each answer.
func TestGCRA(t *testing.T) {
	type request struct {
		at   time.Duration
		n    int64
		ok   bool
		over Over
		wait time.Duration
		left int64
	}
	ten := Ask{Key: KeyOf("k"), Rate: 10, Per: 10 * time.Second, Burst: 3}
	with := func(a Ask, over Over, most time.Duration) Ask {
		a.Over, a.MaxWait = over, most
		return a
	}
	tests := []struct {
		name string
		ask  Ask
		seq  []request
	}{
		{"a burst, then one a second", ten, []request{
			{0, 1, true, "", 0, 2}, {0, 1, true, "", 0, 1}, {0, 1, true, "", 0, 0},
			{0, 1, false, OverDefer, time.Second, 0},
			{999 * time.Millisecond, 1, false, OverDefer, time.Millisecond, 0},
			{time.Second, 1, true, "", 0, 0},
			{time.Second, 1, false, OverDefer, time.Second, 0},
			{time.Minute, 1, true, "", 0, 2},
		}},
		{"several at once", ten, []request{{0, 2, true, "", 0, 1}, {0, 2, false, OverDefer, time.Second, 1}, {0, 1, true, "", 0, 0}}},
		{"more than a burst never passes", ten, []request{{0, 4, false, OverDefer, Never, 3}, {0, 3, true, "", 0, 0}}},
		{"pace books the next turns", with(ten, OverPace, 0), []request{
			{0, 3, true, "", 0, 0}, {0, 1, true, OverPace, time.Second, 0}, {0, 1, true, OverPace, 2 * time.Second, 0},
			{2 * time.Second, 1, true, OverPace, time.Second, 0},
		}},
		{"pace up to its longest wait", with(ten, OverPace, 2*time.Second), []request{
			{0, 3, true, "", 0, 0}, {0, 2, true, OverPace, 2 * time.Second, 0}, {0, 1, false, OverDefer, 3 * time.Second, 0},
		}},
		{"hold", with(ten, OverHold, time.Hour), []request{{0, 3, true, "", 0, 0}, {0, 1, true, OverHold, time.Second, 0}}},
		{"pace takes more than a burst after a wait", with(ten, OverPace, 0), []request{{0, 5, true, OverPace, 2 * time.Second, 0}}},
		{"a day", Ask{Key: KeyOf("d"), Rate: 3, Per: 24 * time.Hour, Burst: 3}, []request{
			{0, 3, true, "", 0, 0}, {8*time.Hour - time.Second, 1, false, OverDefer, time.Second, 0}, {8 * time.Hour, 1, true, "", 0, 0},
		}},
		{"bytes", Ask{Key: KeyOf("b"), Rate: 1e9, Per: time.Second, Burst: 5e8}, []request{
			{0, 5e8, true, "", 0, 0}, {0, 1, false, OverDefer, 1, 0}, {250 * time.Millisecond, 25e7, true, "", 0, 0},
		}},
		{"a third does not add up to more or less", Ask{Key: KeyOf("t"), Rate: 3, Per: time.Second, Burst: 7}, []request{
			{0, 1, true, "", 0, 6}, {0, 1, true, "", 0, 5}, {0, 1, true, "", 0, 4}, {0, 1, true, "", 0, 3}, {0, 1, true, "", 0, 2},
			{0, 1, true, "", 0, 1}, {0, 1, true, "", 0, 0}, {0, 1, false, OverDefer, 333333330, 0},
		}},
	}
	for _, test := range tests {
		l := New(Options{})
		for i, r := range test.seq {
			a := test.ask
			a.N = r.n
			_, v := reserve(l, at(r.at), []Ask{a})
			if v.OK != r.ok || v.Over != r.over || v.Wait != r.wait || v.Remaining != r.left || v.Binding != 0 {
				t.Errorf("%s, request %d: %+v, want %+v", test.name, i, v, r)
			}
		}
	}
}

// TestAllOrNothing: what one limit refuses is taken from none.
func TestAllOrNothing(t *testing.T) {
	l := New(Options{})
	wide := Ask{Key: KeyOf("wide"), Rate: 100, Per: time.Hour, Burst: 100}
	narrow := Ask{Key: KeyOf("narrow"), Rate: 1, Per: time.Hour, Burst: 1}
	for i := range 3 {
		_, v := reserve(l, start, []Ask{wide, narrow})
		if v.OK != (i == 0) || v.Binding != 1 {
			t.Fatalf("request %d: %+v", i, v)
		}
	}
	if s := l.Peek(start, wide); s.Remaining != 99 {
		t.Errorf("wide has %d left, want 99", s.Remaining)
	}
	// The same key twice counts twice, and is refused whole.
	if _, v := reserve(l, start, []Ask{{Key: KeyOf("two"), Rate: 1, Per: time.Hour, Burst: 1}, {Key: KeyOf("two"), Rate: 1, Per: time.Hour, Burst: 1}}); v.OK {
		t.Errorf("%+v", v)
	}
	if s := l.Peek(start, Ask{Key: KeyOf("two"), Rate: 1, Per: time.Hour, Burst: 1}); s.Remaining != 1 || !s.ResetAt.IsZero() {
		t.Errorf("%+v", s)
	}
	// The strictest treatment, for the longest wait.
	paced := Ask{Key: KeyOf("p"), Rate: 1, Per: time.Minute, Burst: 1, Over: OverPace}
	held := Ask{Key: KeyOf("h"), Rate: 1, Per: time.Second, Burst: 1, Over: OverHold}
	reserve(l, start, []Ask{paced, held})
	if _, v := reserve(l, start, []Ask{paced, held}); !v.OK || v.Over != OverHold || v.Wait != time.Minute || v.Binding != 0 {
		t.Errorf("%+v", v)
	}
	if r, v := reserve(l, start, nil); !v.OK || v.Binding != -1 {
		t.Errorf("without limits: %+v", v)
	} else {
		r.Abort(start)
	}
}

// TestAbort gives back what was reserved, once, and never more than that.
func TestAbort(t *testing.T) {
	a := Ask{Key: KeyOf("k"), Rate: 10, Per: 10 * time.Second, Burst: 5}
	left := func(l *Limiter, d time.Duration) int64 { return l.Peek(at(d), a).Remaining }

	l := New(Options{})
	r, _ := reserve(l, start, []Ask{a})
	r.Abort(start)
	r.Abort(start)
	if n := left(l, 0); n != 5 {
		t.Errorf("%d left after an abort", n)
	}
	r, _ = reserve(l, start, []Ask{a})
	r.Commit()
	r.Abort(start)
	if n := left(l, 0); n != 4 {
		t.Errorf("%d left after a commit", n)
	}

	// Between others, at the same instant.
	l = New(Options{})
	reserve(l, start, []Ask{a})
	r, _ = reserve(l, start, []Ask{a})
	reserve(l, start, []Ask{a})
	r.Abort(start)
	if n := left(l, 0); n != 3 {
		t.Errorf("%d left, want 3", n)
	}

	// After it came back by itself, and another was taken: nothing to give.
	l = New(Options{})
	r, _ = reserve(l, start, []Ask{a})
	reserve(l, at(3*time.Second), []Ask{a})
	r.Abort(at(3 * time.Second))
	if n := left(l, 3*time.Second); n != 4 {
		t.Errorf("%d left, want 4", n)
	}
	var none Reservation
	none.Abort(start)
	none.Commit()
}

// TestExactAtOnce: 20 goroutines take from shared limits exactly what these
// allow, with every third giving back.
func TestExactAtOnce(t *testing.T) {
	l := New(Options{})
	asks := func(i int) []Ask {
		return []Ask{
			{Key: KeyOf("tenant", "7"), Rate: 1000, Per: time.Hour, Burst: 1000},
			{Key: KeyOf("credential", fmt.Sprint(i%4)), Rate: 400, Per: time.Hour, Burst: 400},
			{Key: KeyOf("domain", fmt.Sprint(i%50)), Rate: 1000, Per: time.Hour, Burst: 1000},
		}
	}
	var kept [4]atomic.Int64
	var wg sync.WaitGroup
	for g := range 20 {
		wg.Go(func() {
			for i := range 500 {
				r, v := reserve(l, start, asks(g+i))
				if !v.OK {
					continue
				}
				if i%3 == 0 {
					r.Abort(start)
					continue
				}
				kept[(g+i)%4].Add(1)
				r.Commit()
			}
		})
	}
	wg.Wait()
	total := int64(0)
	for i := range kept {
		n := kept[i].Load()
		total += n
		if n > 400 {
			t.Errorf("credential %d kept %d of 400", i, n)
		}
		if left := l.Peek(start, asks(i)[1]).Remaining; left != 400-n {
			t.Errorf("credential %d has %d left after %d", i, left, n)
		}
	}
	if total != 1000 {
		t.Errorf("%d of 1000 kept", total)
	}
	if left := l.Peek(start, asks(0)[0]).Remaining; left != 0 {
		t.Errorf("%d left", left)
	}
}

// TestManyWindowsOverTime: several windows hold at once over an hour of steady
// attempts, each exactly.
func TestManyWindowsOverTime(t *testing.T) {
	l := New(Options{})
	windows := []Ask{
		{Key: KeyOf("s"), Rate: 10, Per: time.Second, Burst: 10},
		{Key: KeyOf("m"), Rate: 60, Per: time.Minute, Burst: 60},
		{Key: KeyOf("h"), Rate: 900, Per: time.Hour, Burst: 100},
	}
	passed := 0
	for d := time.Duration(0); d < time.Hour; d += 100 * time.Millisecond {
		if _, v := reserve(l, at(d), windows); v.OK {
			passed++
		}
	}
	if passed != 100+900-1 && passed != 100+900 {
		t.Errorf("%d passed, want the burst of 100 and 900 in the hour", passed)
	}
}

func TestKeysDiffer(t *testing.T) {
	if KeyOf("a", "bc") == KeyOf("ab", "c") || KeyOf("a") == KeyOf("a", "") {
		t.Error("different lists give one key")
	}
}

// TestBounded: keys beyond the bound push out those nearest to being full.
func TestBounded(t *testing.T) {
	l := New(Options{MaxKeys: 64 * 10})
	for i := range 10_000 {
		reserve(l, start, []Ask{{Key: KeyOf(fmt.Sprint(i)), Rate: 1, Per: time.Hour, Burst: 5}})
	}
	held, dropped := l.Keys()
	if held > 640 || dropped == 0 || held+int(dropped) != 10_000 {
		t.Errorf("%d held, %d dropped", held, dropped)
	}
}

// TestRestart runs snapshots in false time: what passed more than a second before
// a crash is remembered.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := mem.New(mem.Options{})
		defer store.Close()
		l := New(Options{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx, store) }()
		day := Ask{Key: KeyOf("day"), Rate: 10, Per: 24 * time.Hour, Burst: 10}
		short := Ask{Key: KeyOf("short"), Rate: 10, Per: 10 * time.Second, Burst: 10}
		for range 4 {
			reserve(l, time.Now(), []Ask{day, short})
		}
		time.Sleep(1100 * time.Millisecond)
		crashed := New(Options{}) // while the first still runs: what it would find
		if err := crashed.Load(t.Context(), store); err != nil {
			t.Fatal(err)
		}
		if n := crashed.Peek(time.Now(), day).Remaining; n != 6 {
			t.Errorf("%d left after a crash, want 6", n)
		}
		if n := rowsOf(t, store, tablePage); n != 1 {
			t.Errorf("%d pages, want 1", n)
		}
		time.Sleep(40 * time.Second)
		if n := rowsOf(t, store, tablePage); n != 1 {
			t.Errorf("%d pages though nothing changed, want 1", n)
		}
		reserve(l, time.Now(), []Ask{day})
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		again := New(Options{})
		if err := again.Load(t.Context(), store); err != nil {
			t.Fatal(err)
		}
		if n := again.Peek(time.Now(), day).Remaining; n != 5 {
			t.Errorf("%d left after a stop, want 5", n)
		}
	})
}

// TestWriteFailure: what the store did not take is written next time.
func TestWriteFailure(t *testing.T) {
	store := mem.New(mem.Options{})
	defer store.Close()
	l := New(Options{})
	now := time.Now()
	reserve(l, now, []Ask{{Key: KeyOf("a"), Rate: 1, Per: time.Hour, Burst: 3}})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Snapshot(gone, store); err == nil {
		t.Fatal("a snapshot without a store went well")
	}
	if err := l.Snapshot(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	if n := rowsOf(t, store, tablePage); n != 1 {
		t.Errorf("%d pages", n)
	}
	if err := l.Snapshot(t.Context(), store); err != nil {
		t.Fatal(err)
	}
}

// TestManyKeysSurvive goes over page ends.
func TestManyKeysSurvive(t *testing.T) {
	store := mem.New(mem.Options{})
	defer store.Close()
	l := New(Options{})
	now := time.Now()
	ask := func(i int) Ask { return Ask{Key: KeyOf(fmt.Sprint(i)), Rate: 1, Per: time.Hour, Burst: 3} }
	const n = 2*page + 17
	for i := range n {
		reserve(l, now, []Ask{ask(i)})
	}
	if err := l.Snapshot(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	again := New(Options{})
	if err := again.Load(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if left := again.Peek(now, ask(i)).Remaining; left != 2 {
			t.Fatalf("key %d has %d left", i, left)
		}
	}
}

func rowsOf(t *testing.T, store kv.Store, table byte) (n int) {
	t.Helper()
	err := store.View(t.Context(), func(r kv.Reader) error {
		return r.Scan(kv.Range{Prefix: []byte{table}, KeysOnly: true}, func(_, _ []byte) bool { n++; return true })
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestMemory measures a full limiter: at most 66 bytes a key.
func TestMemory(t *testing.T) {
	const keys = 200_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	l := New(Options{MaxKeys: keys})
	for i := range keys * 11 / 10 {
		reserve(l, start, []Ask{{Key: KeyOf("tenant", fmt.Sprint(i)), Rate: 1, Per: time.Hour, Burst: 5}})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	held, _ := l.Keys()
	each := int(after.HeapAlloc-before.HeapAlloc) / held
	t.Logf("%d keys take %d bytes each", held, each)
	if held > keys || held < keys*9/10 || each > 66 {
		t.Errorf("%d keys take %d bytes each", held, each)
	}
	runtime.KeepAlive(l)
}

// FuzzDecodeLimit: no row breaks a load.
func FuzzDecodeLimit(f *testing.F) {
	f.Add(keyLimit(KeyOf("a")), []byte{0, 0, 0, 1, 2, 3, 4, 5})
	f.Add([]byte("g"), []byte{})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		r, ok := decodeLimit(key, value)
		if !ok {
			return
		}
		if string(keyLimit(r.key)) != string(key) || r.tat <= 0 {
			t.Errorf("%x %x: %x", key, value, r)
		}
		a := Ask{Rate: 1, Per: time.Hour, Burst: 1}
		if s := a.state(r.tat, start.UnixNano()); s.Remaining < 0 || s.Remaining > 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestFarFuture: pace and hold without a longest wait book a century ahead and no
// further, so that the arrival time cannot overflow and free the limit.
func TestFarFuture(t *testing.T) {
	for _, over := range []Over{OverPace, OverHold} {
		l := New(Options{})
		a := Ask{Key: KeyOf("k"), Rate: 1, Per: 100 * 24 * time.Hour, Burst: 1, Over: over}
		last := time.Duration(0)
		for i := range 2000 {
			_, v := reserve(l, start, []Ask{a})
			switch {
			case v.OK && v.Wait < last:
				t.Fatalf("%s: request %d waits %v, the one before %v", over, i, v.Wait, last)
			case v.OK && i >= 365:
				t.Fatalf("%s: request %d is taken, to wait %v", over, i, v.Wait)
			case !v.OK && (i < 365 || v.Over != OverDefer || v.Wait < last):
				t.Fatalf("%s: request %d: %+v", over, i, v)
			case !v.OK && l.Would(start, a).OK:
				t.Fatalf("%s: request %d would pass", over, i)
			}
			last = v.Wait
		}
		huge := a
		huge.Key, huge.N = KeyOf("huge"), 1<<62
		if _, v := reserve(l, start, []Ask{huge}); v.OK && v.Wait > maxSpan {
			t.Errorf("%s: %+v", over, v)
		}
	}
}

// TestLastSnapshot: a stop has the time to write all of many keys, also to a disk
// that is slow, and does not wait for ever for one that hangs.
func TestLastSnapshot(t *testing.T) {
	const keys = 150_000
	for _, c := range []struct {
		name  string
		each  time.Duration // of a transaction
		saved bool
	}{{"slow", 150 * time.Millisecond, true}, {"hangs", time.Hour, false}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := New(Options{})
				for i := range keys {
					reserve(l, time.Now(), []Ask{{Key: KeyOf(fmt.Sprint(i)), Rate: 1, Per: time.Hour, Burst: 5}})
				}
				stopped, stop := context.WithCancel(t.Context())
				stop()
				began := time.Now()
				err := l.Run(stopped, slow{each: c.each})
				if took := time.Since(began); (err == nil) != c.saved || took > time.Minute {
					t.Errorf("%v after %v", err, took)
				}
			})
		})
	}
}

// slow is a store that takes its time for a transaction, and keeps nothing.
type slow struct {
	kv.Store
	each time.Duration
}

func (s slow) Update(ctx context.Context, _ func(kv.Writer) error) error {
	select {
	case <-time.After(s.each):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
