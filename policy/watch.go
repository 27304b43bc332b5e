package policy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// poll is how often the folder is looked at. A change is taken once it has stood
// still for one turn, so that a file half written is not compiled, and is in
// force well within two seconds.
const poll = 500 * time.Millisecond

// errGone stands for a folder that was there and is not any more: what it held
// stays in force.
var errGone = fmt.Errorf("the policy folder is gone: %w", fs.ErrNotExist)

// errMoving is a folder that changed while it was read.
var errMoving = errors.New("the policy folder changes while it is read")

// Run watches the policy folder until ctx ends, when the engine was asked to:
// what changed is compiled aside and swapped in whole; what cannot be loaded is
// logged and shown by Status while the last good set stays in force. It returns
// nil once it has stopped.
func (e *Engine) Run(ctx context.Context) error {
	if !e.o.Watch || e.o.Path == "" {
		<-ctx.Done()
		return nil
	}
	e.watch(ctx)
	return nil
}

func (e *Engine) watch(ctx context.Context) {
	// tried is the folder that was loaded last, whether that went well or not.
	// The set in force at the start was read before the first look, so the first
	// look always loads once; the digest says whether that changed anything.
	tried, before := "", ""
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			look, err := e.look(now)
			if settled := look == before; !settled || look == tried {
				before = look
				continue
			}
			if err == nil && look != "" {
				err = e.offerFolder()
			}
			if errors.Is(err, errMoving) {
				before = "" // look again
				continue
			}
			tried = look
			e.note(err)
		}
	}
}

// look is the signature of the folder, empty where the defaults stand in for it.
func (e *Engine) look(now time.Time) (string, error) {
	dir, isDefault, err := e.openFolder()
	look := ""
	if err == nil && !isDefault {
		look, err = signature(dir, now)
	}
	if err != nil {
		look = "error: " + err.Error()
	}
	return look, err
}

func (e *Engine) openFolder() (dir fs.FS, isDefault bool, err error) {
	dir, isDefault, err = openFolder(e.o.Path, e.o.Defaults)
	switch {
	case err == nil && isDefault && e.hadFolder:
		return nil, false, errGone
	case err == nil && dir == nil:
		return nil, false, errors.New("neither a folder nor defaults are given")
	}
	return dir, isDefault, err
}

// readFolder reads what the folder, or its stand-in, holds, at one moment: the
// error is errMoving when that was not to be had.
func (e *Engine) readFolder() (*source, error) {
	dir, isDefault, err := e.openFolder()
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
	e.hadFolder = e.hadFolder || !isDefault
	return src, nil
}

// offerFolder offers what the folder holds now.
func (e *Engine) offerFolder() error {
	src, err := e.readFolder()
	if err != nil {
		return err
	}
	return e.offer(src)
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
	e.log.Error("policies not loaded, the last good set stays in force", "path", e.o.Path, "digest", e.status.Digest, "error", err)
}
