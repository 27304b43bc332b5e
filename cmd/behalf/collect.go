package main

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// garbageRoom is how much garbage gathers between two collections. Most of
	// what a message needs is garbage a moment later, and little stays: the
	// runtime's own pace, as much garbage as is alive, would collect some twenty
	// times a second for a small heap. A large one is mostly buffers and tables
	// without pointers, which cost a collection nothing, so that they are no
	// reason for more garbage.
	garbageRoom = 32 << 20
	// leastHeap counts as alive for the runtime even if less is.
	leastHeap   = 4 << 20
	closestPace = 20 // percent of what is alive

	lookEvery = 500 * time.Millisecond
	// A process that allocates less than quietly between two looks is quiet. What
	// it can do without it gives back if that is worthWhile, not more often than
	// it would have collected for its garbage, or seldom.
	quietly    = 256 << 10
	worthWhile = 4 << 20
	seldom     = 10 * time.Second
)

// limitMemory sets the soft limit of the Go runtime to most of what the control
// group allows, unless GOMEMLIMIT says otherwise.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if n := cgroupMemory(); n > 0 {
		debug.SetMemoryLimit(n / 10 * 9)
	}
}

// paceCollector keeps the garbage collector at the pace that suits what is
// alive, and gives memory back when the process has become quiet, until stop is
// called. It leaves alone what GOGC says.
//
// A start needs no collections at first, and the store's large table no memory
// that was used before: to clear it would make all of it resident.
func paceCollector() (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	room := roomForGarbage()
	c := collector{room: room, pace: memory{}.pace(room), setPace: func(p int) { debug.SetGCPercent(p) }, giveBack: giveBack}
	c.setPace(c.pace)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		heap := newMemoryReader()
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				c.look(heap.read())
			}
		}
	}()
	return func() { close(quit); <-done }
}

func roomForGarbage() int64 {
	if n := cgroupMemory(); n > 0 {
		return min(garbageRoom, n/8)
	}
	return garbageRoom
}

// collector decides what the garbage collector is told.
type collector struct {
	room     int64
	pace     int
	last     memory
	given    memory // when memory was given back
	setPace  func(percent int)
	giveBack func()
}

// look is called once in a while.
func (c *collector) look(m memory) {
	// Each change stops the world for a moment.
	if p := m.pace(c.room); math.Abs(float64(p-c.pace)) > float64(c.pace)/5 {
		c.setPace(p)
		c.pace = p
	}
	if m.since(c.last) < quietly && m.waste() >= worthWhile && c.due(m) {
		c.giveBack()
		c.given = m
	}
	c.last = m
}

// due reports whether enough was done, and time has passed, since memory was
// given back.
func (c *collector) due(m memory) bool {
	done := m.since(c.given)
	return done >= c.room || done >= worthWhile && m.at.Sub(c.given.at) >= seldom
}

// giveBack collects twice, because what is in pools outlives one collection and
// a stack shrinks by half.
func giveBack() {
	runtime.GC()
	debug.FreeOSMemory()
}

// memory is what the runtime tells of its heap, in octets.
type memory struct {
	at        time.Time
	alive     uint64 // what the last collection left
	scanned   uint64 // of that, and of stacks and globals, what it looks through
	objects   uint64 // alive, and allocated since
	free      uint64 // could be given back
	allocated uint64 // since the start
}

// since is what was allocated after an earlier look.
func (m memory) since(earlier memory) int64 { return int64(m.allocated - earlier.allocated) }

// waste is how much a collection could give back.
func (m memory) waste() int64 { return int64(m.objects) - int64(m.alive) + int64(m.free) }

// pace is the percentage at which there is room for so much garbage, or for as
// much as a collection looks through when that is more.
func (m memory) pace(room int64) int {
	want := max(float64(room), float64(m.scanned))
	return int(max(100*want/float64(max(m.alive, leastHeap)), closestPace))
}

// memoryReader asks the runtime.
type memoryReader []metrics.Sample

func newMemoryReader() memoryReader {
	return memoryReader{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/total:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/gc/heap/allocs:bytes"},
	}
}

func (r memoryReader) read() memory {
	metrics.Read(r)
	n := func(i int) uint64 { return r[i].Value.Uint64() }
	return memory{at: time.Now(), alive: n(0), scanned: n(1), objects: n(2), free: n(3), allocated: n(4)}
}
