package policy

import (
	"context"
	"io/fs"
)

// Candidate compiles the policies in dir aside, without putting them in force.
// What it gives back is asked like the set in force, but takes no turn from it
// and counts in no metric, so that recorded traffic can be judged beside live
// traffic. An error that is a set's own fault is of type [Problems].
func (e *Engine) Candidate(ctx context.Context, dir fs.FS) (Pinned, error) {
	if err := ctx.Err(); err != nil {
		return Pinned{}, err
	}
	src, err := readSource(dir)
	if err != nil {
		return Pinned{}, err
	}
	s, problems := compile(src, e.set.Load())
	if len(problems) > 0 {
		return Pinned{}, problems
	}
	return Pinned{e: e, s: s, aside: true}, nil
}

// Active is the set in force, asked aside as a [Engine.Candidate] is.
func (e *Engine) Active() Pinned { return Pinned{e: e, s: e.set.Load(), aside: true} }

// Pending is the set that waits to be accepted, asked aside as a
// [Engine.Candidate] is; false when none waits.
func (e *Engine) Pending() (Pinned, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pending == nil {
		return Pinned{}, false
	}
	return Pinned{e: e, s: e.pending.set, aside: true}, true
}

// lane is what the questions of a set pass through.
type lane struct {
	turns   chan struct{}
	metrics *metrics // nil: uncounted
}

// kept is where what the lane's questions to a stage find out is remembered. A
// replay asks about tenants as they were once, which are in no other question.
func (l lane) kept(s *set, stage int) *answers {
	if l.metrics == nil {
		return nil
	}
	return &s.answers[stage]
}

func (p Pinned) lane() lane {
	if p.aside {
		return lane{turns: p.e.aside}
	}
	return lane{turns: p.e.turns, metrics: p.e.metrics}
}
