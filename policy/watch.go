package policy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"
)

// poll is how often the folder is looked at. A change is taken once it has stood
// still for one turn, so that a file half written is not compiled, and is in
// force well within two seconds.
const poll = 500 * time.Millisecond

// errGone stands for a folder that was there and is not any more: what it held
// stays in force.
var errGone = fmt.Errorf("the policy folder is gone: %w", fs.ErrNotExist)

// errMissing stands for a folder that is not there at start, though a set of its
// kind was in force when the relay stopped: a volume may be mounted late. That
// set is in force again.
var errMissing = fmt.Errorf("the policy folder is not there, and what was in force before the start is in force again; without policy.path the built-in policies would be: %w", fs.ErrNotExist)

// errMoving is a folder that changed while it was read.
var errMoving = errors.New("the policy folder changes while it is read")

// watched is the folder that policies are read from, and what stands in for it while it was
// never there. One goroutine uses it at a time.
type watched struct {
	path     string
	defaults fs.FS // nil: nothing stands in for it
	seen     bool  // the folder was there once
	own      bool  // before the start something else than the defaults was in force
}

// open gives the folder, or its stand-in.
func (f *watched) open() (dir fs.FS, isDefault bool, err error) {
	dir, isDefault, err = openFolder(f.path, f.defaults)
	switch {
	case err == nil && isDefault && f.seen:
		return nil, false, errGone
	case err == nil && isDefault && f.own && f.path != "":
		return nil, false, errMissing
	case err == nil && dir == nil:
		return nil, false, errors.New("neither a folder nor defaults are given")
	}
	return dir, isDefault, err
}

// look is the signature of the folder, empty where the defaults stand in for it.
func (f *watched) look(now time.Time) (string, error) {
	dir, isDefault, err := f.open()
	look := ""
	if err == nil && !isDefault {
		look, err = signature(dir, now)
	}
	if err != nil {
		look = "error: " + err.Error()
	}
	return look, err
}

// read reads what the folder, or its stand-in, holds, at one moment: the error is
// errMoving when that was not to be had.
func (f *watched) read() (*source, error) {
	dir, isDefault, err := f.open()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	before, err := signature(dir, now)
	if err != nil {
		return nil, err
	}
	src, err := readSource(dir)
	if err != nil {
		return nil, err
	}
	if after, err := signature(dir, now); err != nil || after != before {
		return nil, errMoving
	}
	f.seen, src.builtIn = f.seen || !isDefault, isDefault
	return src, nil
}

// watch gives what the folder holds to load whenever it changed, and how that
// went to note, until ctx ends. It begins with what is there.
func (f *watched) watch(ctx context.Context, load func(*source) error, note func(error)) {
	// tried is the folder that was loaded last, whether that went well or not.
	tried, before := "", ""
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			look, err := f.look(now)
			if settled := look == before; !settled || look == tried {
				before = look
				continue
			}
			if err == nil && look != "" {
				var src *source
				if src, err = f.read(); err == nil {
					err = load(src)
				}
			}
			if errors.Is(err, errMoving) {
				before = "" // look again
				continue
			}
			tried = look
			note(err)
		}
	}
}

// Run takes changes of the policies until ctx ends, when the engine was asked
// to: what changed is compiled aside and swapped in whole; what cannot be loaded
// is logged and shown by Status while the last good set stays in force. It tries
// a draft too, if there is one. It returns nil once all of it has stopped.
func (e *Engine) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	if e.bundles != nil {
		parts.Go(func() { e.bundles.run(ctx, e) })
	} else if e.o.Watch && e.o.Path != "" {
		parts.Go(func() { e.folder.watch(ctx, e.offer, e.note) })
	}
	if e.shadow != nil {
		parts.Go(func() { e.shadow.watch(ctx, e) })
		parts.Go(func() { e.shadow.run(ctx, e) })
	}
	<-ctx.Done()
	parts.Wait()
	return nil
}

// note records how the last attempt to load went.
func (e *Engine) note(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.status.Err = err; err == nil {
		e.status.Since = time.Time{}
		e.metrics.stale.Set(0)
		return
	}
	if e.status.Since.IsZero() {
		e.status.Since = time.Now()
	}
	e.metrics.stale.Set(1)
	e.log.Error("policies not loaded, the last good set stays in force", "from", e.where(), "digest", e.status.Digest, "error", err)
}
