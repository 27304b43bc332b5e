package proc

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestStatus(t *testing.T) {
	got := parseStatus([]byte("Name:\tbehalf\nVmHWM:\t   40960 kB\nVmRSS:\t   30720 kB\nRssAnon:\t   20480 kB\nRssFile:\t    9216 kB\nRssShmem:\t    1024 kB\nThreads:\t9\nSeccomp:\n"))
	if want := (State{Memory: Memory{RSS: 30, Anon: 20, File: 10}, Peak: 40, Threads: 9}); got != want {
		t.Errorf("read %+v, not %+v", got, want)
	}
}

// Of this process the kernel tells everything that is asked.
func TestOwn(t *testing.T) {
	s, err := Read(os.Getpid())
	if err != nil || s.RSS <= 0 || s.Anon <= 0 || s.Threads < 1 || s.Descriptors < 3 {
		t.Errorf("read %+v: %v", s, err)
	}
	w := WatchTrees([]int{os.Getpid()})
	for own := []int{os.Getpid()}; CPU(own) < w.at()+20*time.Millisecond; { // looking is work
	}
	if u := w.Stop(); u.CPU <= 0 || u.Own <= 0 || u.Anon <= 0 || u.Peak <= u.Anon {
		t.Errorf("used %+v", u)
	}
}

// A child and its child are of the tree until they end.
func TestTree(t *testing.T) {
	before := children(os.Getpid())
	c := exec.Command("sh", "-c", "sleep 20 & echo; wait")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	shell := slices.DeleteFunc(children(os.Getpid()), func(pid int) bool { return slices.Contains(before, pid) })
	if len(shell) != 1 || shell[0] != c.Process.Pid {
		t.Fatalf("children are %v, not %d", shell, c.Process.Pid)
	}
	sleeper := children(shell[0])
	if len(sleeper) != 1 {
		t.Fatalf("the shell has children %v", sleeper)
	}
	if whole, alone := Resident([]int{os.Getpid()}), Resident(sleeper); alone <= 0 || whole <= alone {
		t.Errorf("all take %v MiB, the last %v", whole, alone)
	}
	for _, pid := range append(sleeper, shell...) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	_ = c.Wait() // it was killed
	if _, ok := look(shell[0]); ok {
		t.Error("a process that has ended is there")
	}
}

func TestDisk(t *testing.T) {
	dir := t.TempDir()
	before, err := Disk(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"a": 3 << 20, "sub/b": 1 << 20} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, size)
		b[0] = 1
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(filepath.Join(dir, "a"), 1<<30); err != nil { // a hole takes nothing
		t.Fatal(err)
	}
	after, err := Disk(dir)
	if grew := after - before; err != nil || grew > 5 {
		t.Errorf("4 MiB take %.1f: %v", grew, err)
	}
}
