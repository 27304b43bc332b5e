package main

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// garbageRoom is how much garbage gathers between two collections when there
	// is less alive than that. Most of what a message needs is garbage a moment
	// later, and little stays: the runtime's own pace, as much garbage as is
	// alive, would collect some twenty times a second for it.
	garbageRoom = 32 << 20
	usualPace   = 100 // percent of what is alive, the runtime's own
	widestPace  = 800
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
// alive, until ctx ends. It leaves alone what GOGC says.
func paceCollector(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	room := int64(garbageRoom)
	if n := cgroupMemory(); n > 0 {
		room = min(room, n/8)
	}
	alive := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for pace := usualPace; ; {
		metrics.Read(alive)
		// Each change stops the world for a moment.
		if p := collectorPace(room, alive[0].Value.Uint64()); math.Abs(float64(p-pace)) > float64(pace)/5 {
			debug.SetGCPercent(p)
			pace = p
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// collectorPace is the percentage at which there is room for so much garbage.
func collectorPace(room int64, alive uint64) int {
	return int(min(max(100*float64(room)/float64(max(alive, 1)), usualPace), widestPace))
}
