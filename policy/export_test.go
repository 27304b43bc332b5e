package policy

import (
	"context"
	"time"
)

// Topdown asks OPA's own evaluator instead of the plan, as the engine does with
// rules that cannot be planned.
func (e *Engine) Topdown(ctx context.Context, pkg string, in any) (Decision, error) {
	s := e.set.Load()
	p := s.stages[stageOf(pkg)]
	return p.evaluate(ctx, s, time.Minute, in.(input).term(p.fields), nil)
}
