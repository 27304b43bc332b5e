package limit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"behalf/internal/kv"
	"behalf/internal/kv/mem"
)

// bulkAsk reserves n recipients of google for mail from domain.
func bulkAsk(t testing.TB, b *Bulk, domain string, n int64, now time.Time) (int64, *BulkReservation) {
	t.Helper()
	shares := []BulkShare{{Family: "google", Recipients: n}}
	r, err := b.Reserve(context.Background(), 0, domain, now, shares)
	if err != nil {
		t.Fatal(err)
	}
	return shares[0].Total, r
}

func bulkTotal(t testing.TB, b *Bulk, domain string, now time.Time) int64 {
	t.Helper()
	n, r := bulkAsk(t, b, domain, 0, now)
	r.Abort()
	return n
}

// TestBulkDay: what is accepted counts for a day, by domain and family.
func TestBulkDay(t *testing.T) {
	store := mem.New(mem.Options{})
	defer store.Close()
	b := NewBulk(store, BulkOptions{})
	now := start
	for i := range 24 {
		n, r := bulkAsk(t, b, "acme.example", 10, now)
		if want := int64(10 * (i + 1)); n != want {
			t.Errorf("hour %d: %d, want %d", i, n, want)
		}
		r.Commit()
		now = now.Add(time.Hour)
	}
	if n := bulkTotal(t, b, "acme.example", now); n < 230 || n > 240 {
		t.Errorf("%d in the last day", n)
	}
	if n := bulkTotal(t, b, "acme.example", now.Add(25*time.Hour)); n != 0 {
		t.Errorf("%d a day later", n)
	}
	if n := bulkTotal(t, b, "other.example", now); n != 0 {
		t.Errorf("%d of another domain", n)
	}
	shares := []BulkShare{{Family: "yahoo", Recipients: 1}, {Family: "google", Recipients: 2}}
	r, err := b.Reserve(t.Context(), 7, "acme.example", now, shares)
	if err != nil {
		t.Fatal(err)
	}
	r.Commit()
	if shares[0].Total != 1 || shares[1].Total != 2 {
		t.Errorf("a tenant and a family have counts of their own: %+v", shares)
	}
}

// TestBulkClockGoesBack: a clock that is set back, or somebody who is late, makes
// no count smaller, over a restart too.
func TestBulkClockGoesBack(t *testing.T) {
	for _, back := range []time.Duration{time.Hour, 10 * time.Hour, 25 * time.Hour} {
		store := mem.New(mem.Options{})
		defer store.Close()
		b := NewBulk(store, BulkOptions{})
		for _, at := range []time.Time{start, start.Add(-back)} {
			_, r := bulkAsk(t, b, "acme.example", 10, at)
			r.Commit()
		}
		for _, at := range []time.Time{start, start.Add(-back)} {
			if n := bulkTotal(t, b, "acme.example", at); n != 20 {
				t.Errorf("%s back: %d at %s, want 20", back, n, at)
			}
		}
		if err := b.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if back > 24*time.Hour { // what is a day ahead is not believed
			continue
		}
		if n := bulkTotal(t, NewBulk(store, BulkOptions{}), "acme.example", start.Add(-back)); n != 20 {
			t.Errorf("%s back: %d after a restart, want 20", back, n)
		}
	}
}

// TestBulkAtOnce: messages that come at once see each other, so that exactly one
// of them sees each number, and what is given back is gone.
func TestBulkAtOnce(t *testing.T) {
	store := mem.New(mem.Options{})
	defer store.Close()
	b := NewBulk(store, BulkOptions{})
	const sessions, each = 20, 50
	var mu sync.Mutex
	var kept []*BulkReservation
	seen := map[int64]bool{}
	var wg sync.WaitGroup
	for range sessions {
		wg.Go(func() {
			for range each {
				n, r := bulkAsk(t, b, "acme.example", 1, start)
				mu.Lock()
				if seen[n] {
					t.Errorf("two messages were told %d", n)
				}
				seen[n] = true
				kept = append(kept, r)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for i, r := range kept {
		if i%2 == 0 {
			r.Commit()
		} else {
			r.Abort()
		}
	}
	if n := bulkTotal(t, b, "acme.example", start); n != sessions*each/2 {
		t.Errorf("%d, want half of %d", n, sessions*each)
	}
}

// TestBulkSurvives a restart, with what was flushed, and memory is bounded:
// what was dropped is read again.
func TestBulkSurvives(t *testing.T) {
	store := mem.New(mem.Options{})
	defer store.Close()
	b := NewBulk(store, BulkOptions{MaxKeys: 8})
	const domains = 100
	for i := range domains {
		_, r := bulkAsk(t, b, fmt.Sprintf("d%d.example", i), int64(i), start)
		r.Commit()
		if err := b.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(b.keys); n > 8 {
		t.Errorf("%d keys in memory", n)
	}
	if n := len(b.dirty); n != 0 {
		t.Errorf("%d changes after a flush", n)
	}
	again := NewBulk(store, BulkOptions{})
	for i := range domains {
		for _, b := range []*Bulk{b, again} {
			if n := bulkTotal(t, b, fmt.Sprintf("d%d.example", i), start.Add(time.Hour)); n != int64(i) {
				t.Errorf("domain %d has %d", i, n)
			}
		}
	}
}

// TestBulkKeepsWhatIsNotWritten: keys with changes are never dropped, and a
// failed flush is made good by the next.
func TestBulkKeepsWhatIsNotWritten(t *testing.T) {
	store := &failing{Store: mem.New(mem.Options{})}
	defer store.Close()
	b := NewBulk(store, BulkOptions{MaxKeys: 2})
	for i := range 5 {
		_, r := bulkAsk(t, b, fmt.Sprintf("d%d.example", i), 3, start)
		r.Commit()
	}
	store.fail = true
	if err := b.Flush(t.Context()); !errors.Is(err, errStore) {
		t.Fatalf("flush: %v", err)
	}
	store.fail = false
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if n := bulkTotal(t, NewBulk(store, BulkOptions{}), fmt.Sprintf("d%d.example", i), start); n != 3 {
			t.Errorf("domain %d has %d in the store", i, n)
		}
	}
}

var errStore = errors.New("the disk is gone")

// failing is a store whose writes fail at times.
type failing struct {
	kv.Store
	fail bool
}

func (f *failing) Update(ctx context.Context, do func(kv.Writer) error) error {
	if f.fail {
		return errStore
	}
	return f.Store.Update(ctx, do)
}

// TestBulkRun writes within a second, and once more when it ends.
func TestBulkRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := mem.New(mem.Options{})
		defer store.Close()
		b := NewBulk(store, BulkOptions{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Run(ctx) }()
		_, r := bulkAsk(t, b, "acme.example", 5, time.Now())
		r.Commit()
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if n := bulkTotal(t, NewBulk(store, BulkOptions{}), "acme.example", time.Now()); n != 5 {
			t.Errorf("%d after a second", n)
		}
		_, r = bulkAsk(t, b, "acme.example", 6, time.Now())
		r.Commit()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := bulkTotal(t, NewBulk(store, BulkOptions{}), "acme.example", time.Now()); n != 11 {
			t.Errorf("%d after the end", n)
		}
	})
}

// FuzzBulkRow: whatever stands in a row, counts stay sane, and what was read is
// written as it was.
func FuzzBulkRow(f *testing.F) {
	var c bulkCount
	c.add(start, 7)
	c.add(start.Add(2*time.Hour), 1<<33)
	f.Add(c.encode())
	f.Add([]byte{})
	f.Add([]byte{bulkVersion, 0xff})
	f.Fuzz(func(t *testing.T, row []byte) {
		var c, d bulkCount
		now := start.Add(3 * time.Hour)
		c.decode(row, now)
		sum := c.day(now)
		if sum < 0 || sum > hourSlots<<40 {
			t.Errorf("sum %d", sum)
		}
		d.decode(c.encode(), now)
		if d.day(now) != sum || !slices.Equal(c.encode(), d.encode()) {
			t.Errorf("%d became %d", sum, d.day(now))
		}
	})
}

// BenchmarkBulk is what one message with one big receiver costs.
func BenchmarkBulk(b *testing.B) {
	store := mem.New(mem.Options{})
	defer store.Close()
	c := NewBulk(store, BulkOptions{})
	b.ReportAllocs()
	for b.Loop() {
		_, r := bulkAsk(b, c, "acme.example", 1, start)
		r.Commit()
	}
}
