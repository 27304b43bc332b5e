package policy

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	opametrics "github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// evaluate runs one stage's query over its input and reads the answer. Nothing
// but a clean answer gives a nil error. The tracer may be nil.
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
	if tracer != nil {
		q = q.WithQueryTracer(tracer)
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
	if d, err = p.decode(pkg, s, answer); err != nil {
		return Decision{}, fmt.Errorf("policy %s: %w", pkg, err)
	}
	return d, nil
}

// decode reads the answer: one set for each name in p.results.
func (p *program) decode(pkg string, s *set, answer *ast.Term) (Decision, error) {
	if answer == nil {
		return Decision{}, fmt.Errorf("the query gave no answer")
	}
	sets, ok := answer.Value.(*ast.Array)
	if !ok || sets.Len() != len(p.results) {
		return Decision{}, fmt.Errorf("the query gave %s", ast.ValueName(answer.Value))
	}
	found := 0
	for i, name := range p.results {
		results, ok := sets.Elem(i).Value.(ast.Set)
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
		if err := sets.Elem(i).Value.(ast.Set).Iter(func(t *ast.Term) error { return d.add(name, t) }); err != nil {
			return Decision{}, err
		}
	}
	return d.decision(), nil
}

// documents answers look-ups in the data files from terms built once, where OPA
// would fill a cache at each evaluation.
type documents struct{ data ast.Object }

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
