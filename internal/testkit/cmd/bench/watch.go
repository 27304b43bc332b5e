package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// watcher measures processes and all their descendants.
type watcher struct {
	roots     []int
	ticks     int64 // of processor time, hundredths of a second, at the start
	own       int64
	busy, all int64 // of the machine
	peak      float64
	quit      chan struct{}
	done      chan struct{}
}

// process is what /proc says of one.
type process struct {
	parent     int
	ticks, rss int64
}

func watchTrees(roots []int) *watcher {
	w := &watcher{roots: roots, quit: make(chan struct{}), done: make(chan struct{})}
	w.ticks, _ = w.look()
	w.own = processes()[os.Getpid()].ticks
	w.busy, w.all = machine()
	go func() {
		defer close(w.done)
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			_, mib := w.look()
			w.peak = max(w.peak, mib)
			select {
			case <-w.quit:
				return
			case <-tick.C:
			}
		}
	}()
	return w
}

// stop tells the processor time a message in milliseconds, the most memory, and
// how much of the machine others used.
func (w *watcher) stop(messages int) (cpu, peak, other float64) {
	close(w.quit)
	<-w.done
	ticks, _ := w.look()
	ticks -= w.ticks
	own := processes()[os.Getpid()].ticks - w.own
	busy, all := machine()
	if all > w.all {
		other = max(0, 100*float64(busy-w.busy-ticks-own)/float64(all-w.all))
	}
	return float64(ticks) * 10 / float64(max(messages, 1)), w.peak, other
}

// look sums up the trees: processor time and resident memory in MiB. Pages that
// processes share are counted for each of them, as ps does.
func (w *watcher) look() (ticks int64, mib float64) {
	all := processes()
	in := map[int]bool{}
	for _, r := range w.roots {
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

// machine is the processor time of all, in hundredths of a second.
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
