package policy

import (
	"context"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	opametrics "github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// rerun tells of tests that failed which rules they asked.
type rerun struct {
	compiler *ast.Compiler // after the tests ran
	store    storage.Store
	txn      storage.Transaction
	modules  map[string]*ast.Module // as parsed
}

// explain runs the test of this name once more, with a trace.
func (f rerun) explain(ctx context.Context, report *TestReport, name string) error {
	query, err := f.compiler.QueryCompiler().Compile(ast.MustParseBody(name))
	if err != nil {
		return fmt.Errorf("explaining the test %s: %w", name, err)
	}
	t := &ruleTracer{rules: map[place]*RuleTrace{}}
	for _, m := range f.modules {
		for _, r := range m.Rules {
			t.rule(r)
		}
	}
	cancel := topdown.NewCancel()
	timer := time.AfterFunc(explainWithin, cancel.Cancel)
	defer timer.Stop()
	q := topdown.NewQuery(query).WithCompiler(f.compiler).WithStore(f.store).WithTransaction(f.txn).WithCancel(cancel).
		WithMetrics(opametrics.NoOp()).WithQueryTracer(t).WithIndexing(false)
	// An error is the test's own, and in its result already.
	_ = q.Iter(ctx, func(topdown.QueryResult) error { return nil })
	for i := range report.Results {
		if one := &report.Results[i]; "data."+one.Name == name && !one.Pass {
			one.Rules = t.asked()
		}
	}
	return ctx.Err()
}

// asked are the rules that were looked at.
func (t *ruleTracer) asked() []RuleTrace {
	var rules []RuleTrace
	for _, r := range t.list() {
		if r.Asked {
			rules = append(rules, r)
		}
	}
	return rules
}

func (r RuleTrace) String() string {
	at := fmt.Sprintf("%s:%d  %s", r.File, r.Line, r.Name)
	switch {
	case r.Fired:
		return at + ": fired"
	case r.Failed > 0:
		return fmt.Sprintf("%s: line %d did not hold", at, r.Failed)
	case r.Asked:
		return at + ": did not fire"
	}
	return at + ": not asked"
}
