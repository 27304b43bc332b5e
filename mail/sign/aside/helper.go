package aside

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// Options of a Helper. The zero value works.
type Options struct {
	Log *slog.Logger
}

// Helper is the program that signs aside, and is started again when it ends.
type Helper struct {
	path     string
	log      *slog.Logger
	times    times
	child    atomic.Pointer[child] // nil: Go signs
	numbers  atomic.Uint64         // of keys
	children atomic.Uint64         // started so far
}

// times are waits; tests have less time.
type times struct {
	hello       time.Duration // of a start
	answer      time.Duration // of a caller, before Go signs
	end         time.Duration // from the end of the input to that of the program
	again, most time.Duration // before a new start: doubled each time, up to most
}

// New gives a helper whose program is at path. It starts nothing: until Run
// has, Go signs.
func New(path string, o Options) *Helper {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Helper{path: path, log: o.Log, times: times{
		hello: 10 * time.Second, answer: 2 * time.Second, end: 5 * time.Second, again: time.Second, most: 5 * time.Minute,
	}}
}

// noLibrary is why a helper cannot sign on this host.
type noLibrary string

func (n noLibrary) Error() string { return string(n) }

// Run keeps the program running until ctx ends, and then ends it. Once it is
// certain that the program will not do here, Run returns nil, and Go signs.
func (h *Helper) Run(ctx context.Context) error {
	// The kernel ends the child with the thread that has started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for wait := h.times.again; ; wait = min(2*wait, h.times.most) {
		if err := h.there(); err != nil {
			level := slog.LevelWarn
			if errors.Is(err, errAbsent) {
				level = slog.LevelInfo
			}
			h.log.Log(ctx, level, "RSA signatures", "by", "Go", "why", err)
			return nil
		}
		began := time.Now()
		err := h.live(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if final(err) {
			h.log.Log(ctx, severity(err), "RSA signatures", "by", "Go", "err", err)
			return nil
		}
		if time.Since(began) > h.times.most {
			wait = h.times.again
		}
		h.log.Warn("RSA signatures", "by", "Go", "err", err, "helper_again_in", wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// final reports whether an error will be there at the next start too.
func final(err error) bool {
	var none noLibrary
	return errors.As(err, &none) || errors.Is(err, errFalse) || errors.Is(err, errOther) ||
		errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOEXEC)
}

func severity(err error) slog.Level {
	if errors.Is(err, errFalse) {
		return slog.LevelError
	}
	return slog.LevelWarn
}

// live is the life of one child.
func (h *Helper) live(ctx context.Context) error {
	return h.with(ctx, func(c *child) {
		h.log.Info("RSA signatures", "by", c.version)
		h.child.Store(c)
		defer h.child.Store(nil)
		select {
		case <-ctx.Done():
		case <-c.ended:
		}
	})
}

// Version asks the program which library it signs with.
func (h *Helper) Version(ctx context.Context) (version string, _ error) {
	if err := h.there(); err != nil {
		return "", err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := h.with(ctx, func(c *child) { version = c.version }); version == "" {
		return "", err
	}
	return version, nil
}

// with starts a child, does what is to be done while it runs, ends it and waits
// for it. The error is why it did not do or ended by itself.
func (h *Helper) with(ctx context.Context, do func(*child)) error {
	in, input, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", h.path, err)
	}
	defer input.Close()
	var said head
	cmd := &exec.Cmd{Path: h.path, Args: []string{h.path}, Env: []string{}, Dir: "/", Stdin: in, Stderr: &said, WaitDelay: h.times.end,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}}
	output, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	in.Close()
	if err != nil {
		return fmt.Errorf("start %s, which needs glibc: %w", h.path, err)
	}
	c := &child{
		generation: h.children.Add(1), limit: h.times.answer, out: outbox{to: input, limit: h.times.answer},
		// Nothing to do if it has ended. Whoever else has its output open is not waited for.
		kill:  func() { cmd.Process.Kill(); output.Close() },
		slots: make(chan struct{}, inFlight), ready: make(chan struct{}), ended: make(chan struct{}), calls: map[uint64]chan<- answer{},
	}
	go c.read(output) // closes c.ended
	select {
	case <-c.ready:
		do(c)
	case <-ctx.Done():
	case <-c.ended:
	case <-time.After(h.times.hello):
		c.fail(errSlow)
	}
	input.Close()
	select {
	case <-c.ended:
	case <-time.After(h.times.end):
		c.kill()
		<-c.ended
	}
	why := c.cause
	if err := cmd.Wait(); err != nil && errors.Is(why, errEnded) {
		why = fmt.Errorf("%w: %w", why, err)
	}
	if text := said.String(); text != "" {
		why = fmt.Errorf("%w; it said: %s", why, text)
	}
	return why
}
