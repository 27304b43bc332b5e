package plan

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
	"github.com/open-policy-agent/opa/v1/rego"
)

// Load makes a program of the modules that c has compiled. It answers for the
// entry points: paths of rules without "data", such as "a/b/deny". It fails on
// rules that OPA's planner cannot plan; OPA's evaluator can still run them.
func Load(ctx context.Context, c *ast.Compiler, entrypoints []string) (*Program, error) {
	policy, err := plan(ctx, c, query(entrypoints))
	if err != nil {
		return nil, fmt.Errorf("planning: %w", err)
	}
	p, err := translate(policy, entrypoints)
	if err != nil {
		return nil, fmt.Errorf("translating the plan: %w", err)
	}
	p.capabilities = c.Capabilities()
	return p, nil
}

// query asks for all entry points at once; what answers the n-th is called
// [answerName](n).
func query(entrypoints []string) ast.Body {
	body := ast.Body{}
	for i, path := range entrypoints {
		ref := ast.Ref{ast.DefaultRootDocument}
		for part := range strings.SplitSeq(path, "/") {
			ref = append(ref, ast.StringTerm(part))
		}
		body.Append(ast.Equality.Expr(ast.VarTerm(answerName(i)), ast.NewTerm(ref)))
	}
	return body
}

func answerName(i int) string { return fmt.Sprint("answer", i) }

// ourTarget names the use that package rego makes of our planner.
const ourTarget = "behalf/policy/plan"

// taker takes plans where package rego hands them to who will run them: there is
// no other way to what OPA's planner makes but through JSON, which takes ten times
// as long as planning. Who asks gives the place for the plan with the context.
type taker struct{}

type placeKey struct{}

func (taker) IsTarget(name string) bool { return name == ourTarget }

func (taker) PrepareForEval(ctx context.Context, p *ir.Policy, _ ...rego.PrepareOption) (rego.TargetPluginEval, error) {
	*ctx.Value(placeKey{}).(**ir.Policy) = p
	return nil, nil
}

// registered is set before anything runs, because package rego reads its targets
// without a lock.
var registered = func() bool {
	rego.RegisterPlugin(ourTarget, taker{})
	return true
}()

// plan runs OPA's planner; its panics are errors.
func plan(ctx context.Context, c *ast.Compiler, query ast.Body) (p *ir.Policy, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	defer c.WithEvalMode(ast.EvalModeTopdown) // as it was
	if _, err := rego.New(rego.Compiler(c), rego.ParsedQuery(query), rego.Target(ourTarget)).PrepareForEval(context.WithValue(ctx, placeKey{}, &p)); err != nil {
		return nil, err
	}
	if p == nil || !registered {
		return nil, errors.New("OPA gave no plan")
	}
	return p, nil
}

var errCannot = errors.New("the plan holds what this package does not run")
