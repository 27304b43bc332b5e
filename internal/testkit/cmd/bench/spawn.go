package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// program is a program that was started.
type program struct {
	name  string
	pid   int
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // why, once it has ended
}

// spawn starts a program with its output in dir.
func spawn(dir, name string, args ...string) (*program, error) {
	out, err := os.Create(filepath.Join(dir, filepath.Base(name)+".log"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &program{name: name, cmd: exec.Command(name, args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p.pid = p.cmd.Process.Pid
	go func() { // ends with the program
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// stop ends the program and waits for it. A program that ended by itself, or in
// another way than a signal ends one, is an error.
func (p *program) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		<-p.ended
		return errors.Join(fmt.Errorf("%s ended by itself: %w", p.name, err), p.err)
	}
	<-p.ended
	var how *exec.ExitError
	if errors.As(p.err, &how) && how.Sys().(syscall.WaitStatus).Signal() == syscall.SIGTERM {
		return nil
	}
	if p.err != nil {
		return fmt.Errorf("%s ended: %w", p.name, p.err)
	}
	return nil
}

// gone reports whether the program has ended.
func (p *program) gone() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}
