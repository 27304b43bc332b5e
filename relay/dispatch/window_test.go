package dispatch

import (
	"testing"
	"time"
)

func TestWindow(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	taken := func(n int) func(*Window) {
		return func(w *Window) {
			for range n {
				w.Taken(w.Size())
			}
		}
	}
	down := func(n int, d time.Duration) func(*Window) {
		return func(w *Window) {
			for range n {
				w.Unreachable(at(d), at(d+time.Second))
			}
		}
	}
	for _, c := range []struct {
		name  string
		steps []func(*Window)
		size  int
		dead  time.Duration // until then; -1: not dead
		since time.Duration // -1: none
	}{
		{"begins at initial", nil, 5, -1, -1},
		{"grows by one a cohort", []func(*Window){taken(6)}, 6, -1, -1},
		{"never over max", []func(*Window){taken(1000)}, 20, -1, -1},
		{"does not grow while it is not used", []func(*Window){func(w *Window) {
			taken(200)(w)
			*w = Window{initial: 5, max: 50, size: 20}
			for range 500 {
				w.Taken(1)
			}
		}}, 20, -1, -1},
		{"shrinks by one a cohort refused", []func(*Window){func(w *Window) {
			for range 5 {
				w.Refused()
			}
		}}, 3, -1, -1},
		{"never under one", []func(*Window){func(w *Window) {
			for range 100 {
				w.Refused()
			}
		}}, 1, -1, -1},
		{"one failure is not death", []func(*Window){down(1, 0)}, 4, -1, 0},
		{"a cohort without a session is", []func(*Window){down(5, 0)}, 1, 16 * time.Second, 0},
		{"a session in between saves it", []func(*Window){down(3, 0), func(w *Window) { w.Alive() }, down(2, time.Minute)}, 3, -1, time.Minute},
		{"what began before it was found dead is no probe", []func(*Window){down(9, 0)}, 1, 16 * time.Second, 0},
		{"a failed probe doubles the wait", []func(*Window){down(5, 0), down(1, 20*time.Second)}, 1, 51 * time.Second, 0},
		{"up to five minutes", []func(*Window){down(5, 0), down(1, time.Hour), down(1, 2*time.Hour), down(1, 3*time.Hour), down(1, 4*time.Hour), down(1, 5*time.Hour)}, 1, 5*time.Hour + 5*time.Minute + time.Second, 0},
		{"a probe that is taken brings it back", []func(*Window){down(5, 0), taken(1)}, 5, -1, -1},
		{"so does one that is refused", []func(*Window){down(5, 0), func(w *Window) { w.Refused() }}, 4, -1, -1},
		{"and then death comes as slowly as ever", []func(*Window){down(5, 0), taken(1), down(4, time.Hour)}, 4, -1, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := NewWindow(5, 20)
			for _, s := range c.steps {
				s(&w)
			}
			until, dead := w.Dead()
			if w.Size() != c.size || dead != (c.dead >= 0) {
				t.Errorf("size %d, dead %v; want %d, %v", w.Size(), dead, c.size, c.dead >= 0)
			}
			if dead && !until.Equal(at(c.dead)) {
				t.Errorf("dead until %v, want %v", until.Sub(start), c.dead)
			}
			if s := w.Since(); s.IsZero() != (c.since < 0) || c.since >= 0 && !s.Equal(at(c.since)) {
				t.Errorf("since %v, want %v", s.Sub(start), c.since)
			}
		})
	}
}

func TestWindowProbe(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	w := NewWindow(1, 1)
	w.Unreachable(now, now)
	w.Probe(now.Add(time.Second))
	if until, dead := w.Dead(); !dead || until.After(now.Add(time.Second)) {
		t.Errorf("dead %v until %v", dead, until)
	}
}
