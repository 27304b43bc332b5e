// Package proc reads what Linux tells of processes: processor time, memory,
// descriptors, and what a folder takes on the disk.
package proc

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Watch measures processes and all their descendants, from its start on.
type Watch struct {
	roots     []int
	ticks     int64 // of processor time, hundredths of a second, at the start
	own       int64
	busy, all int64 // of the machine
	peak      float64
	quit      chan struct{}
	done      chan struct{}
}

// Used is what a Watch saw.
type Used struct {
	CPU   time.Duration // of the processes
	Own   time.Duration // of this one: what making and taking the load costs
	Peak  float64       // most resident memory, MiB
	Other float64       // percent of the machine that others used
}

// process is what /proc says of one.
type process struct {
	parent     int
	ticks, rss int64
}

// WatchTrees starts measuring; Stop must be called.
func WatchTrees(roots []int) *Watch {
	w := &Watch{roots: roots, quit: make(chan struct{}), done: make(chan struct{})}
	w.ticks, w.peak = trees(roots)
	w.own = processes()[os.Getpid()].ticks
	w.busy, w.all = machine()
	go func() {
		defer close(w.done)
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-w.quit:
				return
			case <-tick.C:
				_, mib := trees(w.roots)
				w.peak = max(w.peak, mib)
			}
		}
	}()
	return w
}

// Stop ends measuring.
func (w *Watch) Stop() Used {
	close(w.quit)
	<-w.done
	ticks, mib := trees(w.roots)
	ticks -= w.ticks
	own := processes()[os.Getpid()].ticks - w.own
	busy, all := machine()
	u := Used{CPU: span(ticks), Own: span(own), Peak: max(w.peak, mib)}
	if all > w.all {
		u.Other = max(0, 100*float64(busy-w.busy-ticks-own)/float64(all-w.all))
	}
	return u
}

// at is the processor time that the processes had used at the start.
func (w *Watch) at() time.Duration { return span(w.ticks) }

// span is the time of so many ticks of the kernel, which are 10 ms.
func span(ticks int64) time.Duration { return time.Duration(ticks) * 10 * time.Millisecond }

// Resident is the memory of processes and their descendants in MiB. Pages that
// they share are counted for each of them, as ps does.
func Resident(pids []int) float64 {
	_, mib := trees(pids)
	return mib
}

// CPU is the processor time that processes and their descendants have used.
func CPU(pids []int) time.Duration {
	ticks, _ := trees(pids)
	return span(ticks)
}

func trees(roots []int) (ticks int64, mib float64) {
	all := processes()
	in := map[int]bool{}
	for _, r := range roots {
		in[r] = true
	}
	for grew := true; grew; {
		grew = false
		for pid, p := range all {
			if !in[pid] && in[p.parent] {
				in[pid], grew = true, true
			}
		}
	}
	for pid := range in {
		ticks += all[pid].ticks
		mib += float64(all[pid].rss) * float64(os.Getpagesize()) / (1 << 20)
	}
	return ticks, mib
}

func processes() map[int]process {
	all := map[int]process{}
	paths, _ := filepath.Glob("/proc/[0-9]*/stat") // a fixed, good pattern
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		if len(f) < 22 {
			continue
		}
		// utime, stime and those of children waited for; rss in pages (proc(5)).
		all[pid] = process{parent: int(number(f[1])), ticks: number(f[11]) + number(f[12]) + number(f[13]) + number(f[14]), rss: number(f[21])}
	}
	return all
}

func number(b []byte) int64 {
	n, _ := strconv.ParseInt(string(b), 10, 64) // the kernel writes numbers
	return n
}

// machine is the processor time of all, in ticks.
func machine() (busy, all int64) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, s := range slices.Clip(strings.Fields(line))[1:] {
		n := number([]byte(s))
		if i >= 8 {
			break // guests are in user time already
		}
		all += n
		if i != 3 && i != 4 { // idle, waiting for a disk
			busy += n
		}
	}
	return busy, all
}
