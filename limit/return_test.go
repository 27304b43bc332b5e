package limit

import (
	"testing"
	"time"
)

// Return gives back what some of several asks took, and nothing else; Abort
// afterwards gives back the rest, once.
func TestReturn(t *testing.T) {
	ask := func(name string, n int64) Ask {
		return Ask{Key: KeyOf(name), Rate: 100, Per: 24 * time.Hour, Burst: 100, N: n}
	}
	used := func(l *Limiter, now time.Time, name string) int64 { return 100 - l.Peek(now, ask(name, 1)).Remaining }
	for _, c := range []struct {
		name     string
		from, to int
		a, b     int64 // used after Return
	}{
		{"the first", 0, 1, 0, 15},
		{"the second", 1, 2, 10, 10},
		{"the last two", 1, 3, 10, 0},
		{"all", 0, 3, 0, 0},
		{"none", 1, 1, 10, 15},
		{"more than there are", 2, 9, 10, 5},
		{"the wrong way round", 2, 1, 10, 15},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := New(Options{})
			now := start
			var r Reservation
			for _, a := range []Ask{ask("a", 10), ask("b", 5), ask("b", 10)} {
				if v := l.Reserve(now, []Ask{a}, &r); !v.OK {
					t.Fatal(v)
				}
			}
			before := r.Len()
			r.Return(now, c.from, c.to)
			if a, b := used(l, now, "a"), used(l, now, "b"); a != c.a || b != c.b {
				t.Errorf("a %d, b %d; want %d, %d", a, b, c.a, c.b)
			}
			if given := min(max(c.to, c.from), 3) - c.from; r.Len() != before-max(0, given) {
				t.Errorf("%d of %d parts are left", r.Len(), before)
			}
			r.Abort(now)
			r.Abort(now)
			if a, b := used(l, now, "a"), used(l, now, "b"); a != 0 || b != 0 {
				t.Errorf("after Abort a %d, b %d", a, b)
			}
		})
	}
	// What came back by itself meanwhile is not given twice.
	l := New(Options{})
	var r Reservation
	l.Reserve(start, []Ask{ask("a", 100)}, &r)
	later := start.Add(24 * time.Hour)
	var other Reservation
	l.Reserve(later, []Ask{ask("a", 60)}, &other)
	r.Return(later, 0, 1)
	if n := used(l, later, "a"); n != 60 {
		t.Errorf("%d used, want 60", n)
	}
}
