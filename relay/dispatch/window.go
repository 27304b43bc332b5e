package dispatch

import "time"

// Window says how many jobs a site may have at once. It is Postfix's
// concurrency feedback (SCHEDULER_README): it grows by one a cohort of
// successes, shrinks by one a cohort of failures, and a cohort of failures to
// get any session makes the site dead. A dead site is probed by one job at a
// time, after growing waits. It is pure: the caller says what time it is.
type Window struct {
	initial, max float64
	size         float64
	cohorts      float64   // failed cohorts since the last session
	fails        int       // how often the site was found dead in a row
	since        time.Time // begin of the first attempt of the run without a session
	until        time.Time // dead: no job before
	dead         bool
}

// probeWaits are the waits between probes of a dead site; the last repeats.
var probeWaits = [...]time.Duration{15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute}

// NewWindow makes a window that begins at initial and grows up to max.
func NewWindow(initial, limit int) Window {
	initial = max(1, initial)
	return Window{initial: float64(initial), max: float64(max(initial, limit)), size: float64(initial)}
}

// Size is how many jobs may be under way.
func (w *Window) Size() int {
	if w.dead {
		return 1
	}
	return int(w.size)
}

// Dead reports whether the site is dead, and until when nothing is tried.
// From then on one job probes it.
func (w *Window) Dead() (until time.Time, dead bool) { return w.until, w.dead }

// Since is when the present run without any session began; zero if the last
// attempt had one.
func (w *Window) Since() time.Time { return w.since }

// Taken says that a job went well while busy jobs, itself counted, were under
// way. The window grows only while it is about to be used.
func (w *Window) Taken(busy int) {
	revived := w.dead
	w.Alive()
	if revived {
		return
	}
	if w.size < float64(busy)+w.initial {
		w.size = min(w.max, w.size+1/w.size)
	}
}

// Alive says that a session was had, whatever came of it.
func (w *Window) Alive() {
	if w.dead {
		w.size = w.initial
	}
	w.dead, w.cohorts, w.fails = false, 0, 0
	w.since, w.until = time.Time{}, time.Time{}
}

// Refused says that a session was had and the site did not like us.
func (w *Window) Refused() {
	w.Alive()
	w.shrink()
}

// Unreachable says that an attempt begun at start ended now without any
// session.
func (w *Window) Unreachable(start, now time.Time) {
	if w.since.IsZero() || start.Before(w.since) {
		w.since = start
	}
	if w.dead {
		if !now.Before(w.until) { // else it began before the site was found dead
			w.bury(now)
		}
		return
	}
	w.cohorts += 1 / w.size
	w.shrink()
	if w.cohorts >= 1 {
		w.bury(now)
	}
}

// Probe lets the next job try a dead site at once.
func (w *Window) Probe(now time.Time) {
	if w.dead && w.until.After(now) {
		w.until = now
	}
}

func (w *Window) shrink() { w.size = max(1, w.size-1/w.size) }

func (w *Window) bury(now time.Time) {
	w.dead = true
	w.until = now.Add(probeWaits[min(w.fails, len(probeWaits)-1)])
	w.fails++
}
