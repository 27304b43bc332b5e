package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Process is a program that runs until it is stopped.
type Process struct {
	cmd     *exec.Cmd
	logFile string
	done    chan struct{}
	err     error
}

// Spawn starts a program whose outputs go into a log, which is shown when the
// test fails. It is stopped when the test ends.
func Spawn(t testing.TB, env []string, name string, args ...string) *Process {
	t.Helper()
	p := &Process{cmd: exec.Command(name, args...), done: make(chan struct{})}
	p.logFile = filepath.Join(t.TempDir(), filepath.Base(name)+".log")
	f, err := os.Create(p.logFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.Env = append(os.Environ(), env...)
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Stop()
		showLog(t, name, p.logFile)
	})
	return p
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Log is what the program printed so far.
func (p *Process) Log() string {
	b, _ := os.ReadFile(p.logFile) // gone only with the test
	return string(b)
}

// Stop asks the program to end, insists when it takes longer than the relay gives
// to what is under way, and gives its error.
func (p *Process) Stop() error {
	if !p.Running() {
		return p.err
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may end by itself just now
	select {
	case <-p.done:
	case <-time.After(patience):
		p.Kill()
	}
	return p.err
}

// Kill ends the program as a crash would, without a word.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.done
}

// Running reports whether the program has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// showLog prints the end of a log if the test failed.
func showLog(t testing.TB, name, file string) {
	if !t.Failed() {
		return
	}
	const most = 8 << 10
	b, err := os.ReadFile(file)
	if err != nil {
		return
	}
	if len(b) > most {
		b = b[len(b)-most:]
	}
	t.Logf("log of %s:\n%s", filepath.Base(name), b)
}

// stopByFile ends the process whose id a file holds.
func stopByFile(t testing.TB, file string) {
	b, err := os.ReadFile(file)
	if err != nil {
		return // never started
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		t.Errorf("%s holds no process id: %q", file, b)
		return
	}
	_ = syscall.Kill(pid, syscall.SIGTERM) // it may have ended
	for end := time.Now().Add(10 * time.Second); syscall.Kill(pid, 0) == nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			return
		}
	}
}
