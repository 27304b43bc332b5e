package policy

import (
	"context"
	"io/fs"
	"time"
)

// poll is how often the folder is looked at. A change is taken once it has stood
// still for one turn, so that a file half written is not compiled, and is in
// force well within two seconds.
const poll = 500 * time.Millisecond

// Run watches the policy folder until ctx ends, when the engine was asked to:
// what changed is compiled aside and swapped in whole; what cannot be loaded is
// logged and shown by Status while the last good set stays in force. It returns
// nil once it has stopped.
func (e *Engine) Run(ctx context.Context) error {
	if !e.o.Watch || e.o.Path == "" {
		<-ctx.Done()
		return nil
	}
	// tried is the folder that was loaded last, whether that went well or not.
	// The set in force at the start was read before the first look, so the first
	// look always loads once; the digest says whether that changed anything.
	tried, before := "", ""
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			dir, isDefault, err := openFolder(e.o.Path, e.o.Defaults)
			if err == nil && isDefault && !e.Status().Default {
				err = fs.ErrNotExist // it was there: keep what it held
			}
			look := ""
			if err == nil && !isDefault {
				look, err = signature(dir, now)
			}
			if err != nil {
				look = "error: " + err.Error()
			}
			if settled := look == before; !settled || look == tried {
				before = look
				continue
			}
			tried = look
			if err == nil && !isDefault {
				err = e.reload(dir)
			}
			e.note(err)
		}
	}
}

// reload loads the folder unless it holds what is in force already.
func (e *Engine) reload(dir fs.FS) error {
	src, err := readSource(dir)
	if err != nil {
		return err
	}
	if src.digest() == e.set.Load().digest {
		return nil
	}
	return e.install(src, false)
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
