package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

const mib = 1 << 20

// There is room for garbage whatever is alive, and for more only where a
// collection has much to look through.
func TestCollectorPace(t *testing.T) {
	for _, c := range []struct {
		room, alive, scanned, want int
	}{
		{48, 0, 0, 1200}, // the runtime takes 4 MiB as alive
		{48, 1, 1, 1200},
		{48, 16, 8, 300},
		{48, 48, 8, 100},
		{48, 96, 8, 50},
		{48, 96, 96, 100},
		{48, 1024, 512, 50},
		{48, 1024, 8, closestPace},
		{4, 16, 16, 100},
	} {
		m := memory{alive: uint64(c.alive * mib), scanned: uint64(c.scanned * mib)}
		if got := m.pace(int64(c.room * mib)); got != c.want {
			t.Errorf("room %d, alive %d, looked through %d: %d, want %d", c.room, c.alive, c.scanned, got, c.want)
		}
	}
}

// The pace is changed when it is a fifth off, not for less.
func TestCollectorChanges(t *testing.T) {
	var paces []int
	c := collector{room: 32 * mib, pace: 100, setPace: func(p int) { paces = append(paces, p) }, giveBack: func() {}}
	for _, alive := range []uint64{32, 30, 35, 64, 60, 70, 16} {
		c.look(memory{alive: alive * mib, objects: alive * mib})
	}
	if len(paces) != 2 || paces[0] != 50 || paces[1] != 200 {
		t.Errorf("changed to %v", paces)
	}
}

// Memory is given back when the process has become quiet, if there is some to
// give, and not over and over for work in little portions.
func TestQuietGivesBack(t *testing.T) {
	start := time.Now()
	given := 0
	c := collector{room: 32 * mib, pace: 100, setPace: func(int) {}, giveBack: func() { given++ }}
	for i, step := range []struct {
		seconds                  int
		allocated, objects, free uint64 // MiB
		given                    int
	}{
		{0, 50, 40, 0, 0},  // it has just started
		{1, 90, 60, 10, 0}, // it works
		{2, 91, 60, 10, 0},
		{3, 91, 60, 10, 1},  // it is quiet
		{4, 91, 21, 1, 1},   // nothing is left to give
		{5, 100, 30, 0, 1},  // a little is done
		{6, 100, 30, 0, 1},  // not worth while so soon
		{13, 100, 30, 0, 2}, // garbage counts
		{14, 140, 30, 0, 2}, // much is done
		{15, 140, 20, 4, 3}, // so that it is soon enough; free memory counts
		{60, 140, 20, 9, 3}, // nothing was done, so that giving back has been tried
	} {
		c.look(memory{at: start.Add(time.Duration(step.seconds) * time.Second),
			alive: 20 * mib, objects: step.objects * mib, free: step.free * mib, allocated: step.allocated * mib})
		if given != step.given {
			t.Fatalf("step %d: given back %d times, not %d", i, given, step.given)
		}
	}
}

// What the runtime tells has the meaning that is taken for granted here.
func TestMemoryReader(t *testing.T) {
	// A collection in between would count the 8 MiB as alive.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.GC()
	r := newMemoryReader()
	before := r.read()
	b := make([]byte, 8*mib)
	during := r.read()
	runtime.KeepAlive(b)
	runtime.GC()
	after := r.read()
	if before.scanned == 0 || during.allocated-before.allocated < 8*mib || during.waste() < 8*mib {
		t.Errorf("before 8 MiB: %+v, with them: %+v", before, during)
	}
	if after.alive == 0 || after.objects > during.objects-7*mib {
		t.Errorf("with 8 MiB: %+v, without: %+v", during, after)
	}
}
