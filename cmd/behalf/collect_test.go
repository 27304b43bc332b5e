package main

import "testing"

// There is room for garbage where little is alive, and no more than that.
func TestCollectorPace(t *testing.T) {
	for _, c := range []struct {
		room  int64
		alive uint64
		want  int
	}{
		{48 << 20, 0, widestPace},
		{48 << 20, 1 << 20, widestPace},
		{48 << 20, 16 << 20, 300},
		{48 << 20, 32 << 20, 150},
		{48 << 20, 48 << 20, usualPace},
		{48 << 20, 1 << 30, usualPace},
		{4 << 20, 16 << 20, usualPace},
	} {
		if got := collectorPace(c.room, c.alive); got != c.want {
			t.Errorf("room %d, alive %d: %d, want %d", c.room, c.alive, got, c.want)
		}
	}
}
