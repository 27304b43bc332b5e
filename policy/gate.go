package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// pending is a set that waits to be accepted.
type pending struct {
	set       *set
	since     time.Time
	isDefault bool
	changes   Changes // from the set in force
}

// The reasons why a set is not accepted.
var (
	ErrNotPending  = errors.New("no set with this digest waits to be accepted; behalf policy status shows the one that does")
	ErrNotReviewed = errors.New("this set was not replayed yet: look at what it changes with behalf policy replay, then accept it; a replay of one tenant, or in which the set was asked nothing, does not count, and --force accepts it unseen")
)

// start brings the first set into force. Behind a gate that is the set that was
// accepted last, when one is kept, and what the folder holds waits. So it is where
// the folder is missing and what was in force is not what was built in.
func (e *Engine) start(ctx context.Context) error {
	kept, err := e.readKept()
	if err != nil {
		return err
	}
	e.folder.own = kept != nil && !e.wasDefault(kept.digest())
	src, err := e.first(ctx)
	if kept != nil && (e.o.Gate || errors.Is(err, errMissing)) {
		s, problems := compile(kept, nil)
		if len(problems) > 0 {
			return fmt.Errorf("the set that was in force last does not compile any more; to start with what %s holds, remove %s: %w", e.where(), e.keptFile(), problems)
		}
		e.resume(s)
		if err == nil {
			err = e.offer(src)
		}
		e.note(err)
		return nil
	}
	if err != nil {
		return err
	}
	s, problems := compile(src, nil)
	if len(problems) > 0 {
		return problems
	}
	if kept != nil && kept.digest() == s.digest {
		e.resume(s)
		e.isFrom(src)
		return nil
	}
	var was *contents
	if kept != nil {
		was, _ = readContents(kept, &s.contents)
	}
	return e.activate(s, was, Activation{})
}

// first is what there is to begin with.
func (e *Engine) first(ctx context.Context) (*source, error) {
	if e.bundles != nil {
		return e.bundles.first(ctx)
	}
	src, err := e.folder.read()
	for try := 0; errors.Is(err, errMoving) && try < 20; try++ {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
		src, err = e.folder.read()
	}
	return src, err
}

// where names where policies come from, for people.
func (e *Engine) where() string {
	if e.bundles != nil {
		return "the bundle server"
	}
	if e.o.Path == "" {
		return "the program"
	}
	return e.o.Path
}

// offer compiles what policies are now aside. It comes into force at once, or
// behind a gate once it is accepted.
func (e *Engine) offer(src *source) error {
	e.changing.Lock()
	defer e.changing.Unlock()
	digest, now := src.digest(), e.set.Load()
	if p, ok := e.Pending(); ok && p.s.digest == digest {
		return nil
	}
	if digest == now.digest {
		e.wait(nil)
		e.isFrom(src)
		return nil
	}
	s, problems := compile(src, now)
	if len(problems) > 0 {
		e.wait(nil) // what waited is not there any more
		return problems
	}
	if !e.o.Gate {
		return e.activate(s, &now.contents, Activation{})
	}
	p := &pending{set: s, since: time.Now(), isDefault: src.builtIn, changes: compare(&now.contents, &s.contents)}
	e.wait(p)
	e.log.Info("policies wait to be accepted", "digest", digest, "in_force", now.digest, "changes", p.changes.String())
	return nil
}

func (e *Engine) wait(p *pending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pending = p
}

// Review is what a replay of recorded traffic found out about a set.
type Review struct {
	Since     time.Time `json:"since"`
	Until     time.Time `json:"until"`
	Decisions int       `json:"decisions"` // that were recorded then
	Asked     int       `json:"asked"`     // of them, how many the set was asked too
	Differing int       `json:"differing"` // of these, how many it decided differently
}

// reviewed is a set that somebody looked at.
type reviewed struct {
	digest string
	Review
}

// Reviewed notes that somebody looked at what the set with this digest would
// have decided on the recorded traffic of all tenants; [Engine.Accept] asks for
// that. It does not count where the set was asked nothing, and is forgotten at a
// restart.
func (e *Engine) Reviewed(digest string, r Review) {
	if r.Asked == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	const remembered = 16
	e.reviewed = append(slices.DeleteFunc(e.reviewed, func(o reviewed) bool { return o.digest == digest }), reviewed{digest, r})
	if len(e.reviewed) > remembered {
		e.reviewed = slices.Delete(e.reviewed, 0, 1)
	}
}

// reviewOf is the last review of a set; nil: nobody looked. The lock is held.
func (e *Engine) reviewOf(digest string) *Review {
	for _, r := range e.reviewed {
		if r.digest == digest {
			return &r.Review
		}
	}
	return nil
}

// Accept puts the set that waits into force; digest must be its own, and by is
// who says so. With unseen nobody needs to have looked at it, and the history
// tells that nobody had. The errors are [ErrNotPending], [ErrNotReviewed], and
// that the set could not be kept on disk, which leaves everything as it was.
func (e *Engine) Accept(digest, by string, unseen bool) error {
	e.changing.Lock()
	defer e.changing.Unlock()
	e.mu.Lock()
	p, review := e.pending, e.reviewOf(digest)
	e.mu.Unlock()
	switch {
	case p == nil || p.set.digest != digest:
		return ErrNotPending
	case review == nil && !unseen:
		return ErrNotReviewed
	}
	return e.activate(p.set, &e.set.Load().contents, Activation{By: by, Review: review, Unseen: review == nil})
}

// activate keeps a set and swaps it in; was is what it replaces, as far as known,
// and a tells who accepted it.
func (e *Engine) activate(s *set, was *contents, a Activation) error {
	a.Digest, a.At, a.Default, a.Files = s.digest, time.Now(), s.source.builtIn, len(s.source.rego)+len(s.source.data)
	if was != nil {
		a.Changes = compare(was, &s.contents)
	}
	err := e.keep(s.source, append(e.past(), a))
	switch {
	case err != nil && e.o.Gate:
		return fmt.Errorf("keeping the accepted policies: %w", err)
	case err != nil:
		e.log.Error("the policies in force could not be kept; a restart will not tell what changed", "error", err)
	}
	e.putInForce(s, a)
	e.warnUnplanned(s)
	e.log.Info("policies loaded", "digest", s.digest, "files", a.Files, "default", a.Default, "by", a.By, "unseen", a.Unseen, "changes", a.Changes.String())
	return nil
}

// putInForce swaps a set in.
func (e *Engine) putInForce(s *set, a Activation) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.set.Store(s)
	e.failed.forget()
	e.history = lastOf(append(e.history, a), maxHistory)
	e.status = Status{Digest: a.Digest, Loaded: a.At, Default: a.Default}
	e.metrics.stale.Set(0) // as the status has no error now
	e.pending = nil
}

// isFrom notes where the set in force is found now: what was built in may have
// become a folder that holds the same.
func (e *Engine) isFrom(src *source) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status.Default = src.builtIn
}
