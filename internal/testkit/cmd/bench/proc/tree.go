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
	"syscall"
	"time"
)

// Watch measures processes and all their descendants, from its start on.
type Watch struct {
	roots   []int
	ticks   int64 // of processor time, hundredths of a second, at the start
	own     int64
	machine machineTicks
	most    resident
	quit    chan struct{}
	done    chan struct{}
}

// Used is what a Watch saw.
type Used struct {
	CPU   time.Duration // of the processes
	Own   time.Duration // of this one: what making and taking the load costs
	Peak  float64       // most resident memory, MiB
	Anon  float64       // likewise of memory that no file is behind
	Other float64       // percent of the machine that others used
	Taken float64       // of that, what the host gave to other guests
}

// resident is memory in MiB: all of it, and without mapped files.
type resident struct{ all, anon float64 }

func (r *resident) atLeast(s resident) { r.all, r.anon = max(r.all, s.all), max(r.anon, s.anon) }

// process is what /proc says of one; memory in pages.
type process struct{ ticks, rss, anon int64 }

// WatchTrees starts measuring; Stop must be called.
func WatchTrees(roots []int) *Watch {
	w := &Watch{roots: roots, quit: make(chan struct{}), done: make(chan struct{})}
	w.ticks, w.most = trees(roots)
	w.own = ownTicks()
	w.machine = machine()
	go func() {
		defer close(w.done)
		tick := time.NewTicker(time.Second) // a Postfix has 200 processes to read
		defer tick.Stop()
		for {
			select {
			case <-w.quit:
				return
			case <-tick.C:
				_, now := trees(w.roots)
				w.most.atLeast(now)
			}
		}
	}()
	return w
}

// Stop ends measuring.
func (w *Watch) Stop() Used {
	close(w.quit)
	<-w.done
	ticks, now := trees(w.roots)
	w.most.atLeast(now)
	ticks -= w.ticks
	own := ownTicks() - w.own
	m := machine()
	u := Used{CPU: span(ticks), Own: span(own), Peak: w.most.all, Anon: w.most.anon}
	if all := float64(m.all - w.machine.all); all > 0 {
		u.Other = max(0, 100*float64(m.busy-w.machine.busy-ticks-own)/all)
		u.Taken = 100 * float64(m.taken-w.machine.taken) / all
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
	_, now := trees(pids)
	return now.all
}

// CPU is the processor time that processes and their descendants have used.
func CPU(pids []int) time.Duration {
	ticks, _ := trees(pids)
	return span(ticks)
}

func trees(roots []int) (ticks int64, r resident) {
	seen := map[int]bool{}
	for todo := slices.Clone(roots); len(todo) > 0; {
		pid := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		p, ok := look(pid)
		if seen[pid] || !ok {
			continue // it has ended
		}
		seen[pid] = true
		ticks += p.ticks
		r.all += mib(p.rss)
		r.anon += mib(p.anon)
		todo = append(todo, children(pid)...)
	}
	return ticks, r
}

func mib(pages int64) float64 { return float64(pages) * float64(os.Getpagesize()) / (1 << 20) }

// children are those of all threads of a process. To ask for them is far cheaper
// than to read all processes there are.
func children(pid int) (all []int) {
	paths, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children") // a good pattern
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		for f := range bytes.FieldsSeq(b) {
			all = append(all, int(number(f)))
		}
	}
	return all
}

// look reads what /proc says of a process.
func look(pid int) (p process, ok bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return p, false
	}
	statm, err := os.ReadFile(dir + "/statm")
	if err != nil {
		return p, false
	}
	f, m := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]), bytes.Fields(statm)
	if len(f) < 22 || len(m) < 3 {
		return p, false
	}
	// utime, stime and those of children waited for; resident, and of that with a
	// file behind it (proc(5)).
	p.ticks = number(f[11]) + number(f[12]) + number(f[13]) + number(f[14])
	p.rss = number(m[1])
	p.anon = p.rss - number(m[2])
	return p, true
}

// ownTicks is the processor time of this process alone: not of the servers under
// test that it started and that have ended.
func ownTicks() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return (u.Utime.Nano() + u.Stime.Nano()) / int64(span(1))
}

func number(b []byte) int64 {
	n, _ := strconv.ParseInt(string(b), 10, 64) // the kernel writes numbers
	return n
}

// machineTicks is the processor time of all, in ticks: taken is what was wanted
// here and given to other guests of the host.
type machineTicks struct{ taken, busy, all int64 }

func machine() (m machineTicks) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return m
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, s := range slices.Clip(strings.Fields(line))[1:] {
		n := number([]byte(s))
		if i >= 8 {
			break // guests are in user time already
		}
		m.all += n
		if i != 3 && i != 4 { // idle, waiting for a disk
			m.busy += n
		}
		if i == 7 {
			m.taken = n
		}
	}
	return m
}
