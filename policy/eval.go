package policy

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	opametrics "github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"

	"behalf/policy/plan"
)

// decide asks one stage about its input. It runs the stage's plan; OPA's own
// evaluator has the word where there is no plan, and where the plan came upon a
// fault, because OPA may not have looked there. What the plan decides is kept in
// answers, unless that is nil.
func (p *program) decide(ctx context.Context, s *set, deadline time.Duration, in input, kept *answers) (Decision, error) {
	if p.plan == nil {
		return p.evaluate(ctx, s, deadline, in.term(p.fields), nil)
	}
	sets := make([]*ast.Term, len(p.results))
	pkg := stages()[p.stage].name
	view := view(in, p.fields)
	if err := p.plan.Eval(ctx, plan.Question{Input: view, Data: s.documents.term, Deadline: deadline}, sets); err != nil {
		if isFault(err) {
			return p.evaluate(ctx, s, deadline, in.term(p.fields), nil)
		}
		return Decision{}, fmt.Errorf("policy %s: %w", pkg, err)
	}
	d, err := p.decode(pkg, s, sets)
	if err != nil {
		return Decision{}, fmt.Errorf("policy %s: %w", pkg, err)
	}
	if t := tenantIn(in); t != nil && kept != nil {
		kept.keep(t, view, d)
	}
	return d, nil
}

func isFault(err error) bool {
	var fault *plan.Fault
	return errors.As(err, &fault)
}

// warnUnplanned says which stages of a set run without a plan.
func (e *Engine) warnUnplanned(s *set) {
	for _, p := range s.stages {
		if p != nil && p.why != nil {
			e.log.Warn("a policy stage cannot be planned: it runs on OPA's evaluator, slower and bounded by the deadline alone", "reason", p.why)
		}
	}
}

// evaluate runs one stage's query on OPA's evaluator and reads the answer.
// Nothing but a clean answer gives a nil error. With a tracer it looks at every
// rule, and the answer counts for nothing.
func (p *program) evaluate(ctx context.Context, s *set, deadline time.Duration, in *ast.Term, tracer topdown.QueryTracer) (d Decision, err error) {
	pkg := stages()[p.stage].name
	defer func() {
		if r := recover(); r != nil {
			d, err = Decision{}, fmt.Errorf("policy %s: panic: %v\n%s", pkg, r, debug.Stack())
		}
	}()
	cancel := topdown.NewCancel()
	timer := time.AfterFunc(deadline, cancel.Cancel)
	defer timer.Stop()
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, cancel.Cancel)()
	}
	txn, err := s.store.NewTransaction(ctx, storage.TransactionParams{})
	if err != nil {
		return Decision{}, fmt.Errorf("policy %s: %w", pkg, err)
	}
	defer s.store.Abort(ctx, txn)
	q := topdown.NewQuery(p.query).WithCompiler(p.compiler).WithStore(s.store).WithTransaction(txn).
		WithCancel(cancel).WithInput(in).WithStrictBuiltinErrors(true).
		WithMetrics(opametrics.NoOp()).WithBaseCache(s.documents)
	if tracer != nil { // an index would pass rules over unseen, an error end it
		q = q.WithQueryTracer(tracer).WithIndexing(false).WithStrictBuiltinErrors(false)
	}
	var answer *ast.Term
	err = q.Iter(ctx, func(r topdown.QueryResult) error {
		answer = r["results"]
		return nil
	})
	switch {
	case err != nil && topdown.IsCancel(err) && ctx.Err() != nil:
		return Decision{}, fmt.Errorf("policy %s: %w", pkg, ctx.Err())
	case err != nil && topdown.IsCancel(err):
		return Decision{}, fmt.Errorf("policy %s took longer than %v: %w", pkg, deadline, context.DeadlineExceeded)
	case err != nil:
		return Decision{}, fmt.Errorf("policy %s: %w", pkg, err)
	}
	sets, err := split(answer)
	if err == nil {
		d, err = p.decode(pkg, s, sets)
	}
	if err != nil {
		return Decision{}, fmt.Errorf("policy %s: %w", pkg, err)
	}
	return d, nil
}

// split gives what is in the list that the query gives.
func split(answer *ast.Term) ([]*ast.Term, error) {
	if answer == nil {
		return nil, errors.New("the query gave no answer")
	}
	list, ok := answer.Value.(*ast.Array)
	if !ok {
		return nil, fmt.Errorf("the query gave %s", ast.ValueName(answer.Value))
	}
	sets := make([]*ast.Term, list.Len())
	for i := range sets {
		sets[i] = list.Elem(i)
	}
	return sets, nil
}

// decode reads the answer: one set for each name in p.results.
func (p *program) decode(pkg string, s *set, sets []*ast.Term) (Decision, error) {
	if len(sets) != len(p.results) {
		return Decision{}, fmt.Errorf("the query gave %d sets", len(sets))
	}
	found := 0
	for i, name := range p.results {
		if sets[i] == nil {
			return Decision{}, fmt.Errorf("%s is undefined", name)
		}
		results, ok := sets[i].Value.(ast.Set)
		if !ok {
			return Decision{}, fmt.Errorf("%s is not a set", name)
		}
		found += results.Len()
	}
	if found == 0 {
		return Decision{Digest: s.digest}, nil
	}
	d := draft{pkg: pkg, files: s.files}
	d.d.Digest = s.digest
	for i, name := range p.results {
		for _, t := range sets[i].Value.(ast.Set).Slice() {
			if err := d.add(name, t); err != nil {
				return Decision{}, err
			}
		}
	}
	return d.decision(), nil
}

// documents answers look-ups in the data files from terms built once, where OPA
// would fill a cache at each evaluation.
type documents struct {
	data ast.Object
	term *ast.Term // the same
}

// Get gives the value at ref, nil when there is none.
func (d documents) Get(ref ast.Ref) ast.Value {
	v, err := d.data.Find(ref[1:])
	if err != nil {
		return nil
	}
	return v
}

// Put does nothing: everything is there.
func (d documents) Put(ast.Ref, ast.Value) {}
