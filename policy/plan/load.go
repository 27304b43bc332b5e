package plan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/compile"
	"github.com/open-policy-agent/opa/v1/ir"
)

// Load makes a program of the modules, by file name, that answers for the entry
// points: paths of rules without "data", such as "a/b/deny". It fails on rules
// that OPA's planner cannot plan; OPA's evaluator can still run them.
func Load(ctx context.Context, modules map[string]*ast.Module, entrypoints []string, caps *ast.Capabilities) (*Program, error) {
	b := &bundle.Bundle{}
	b.Manifest.Init()
	b.SetRegoVersion(ast.RegoV1)
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		b.Modules = append(b.Modules, bundle.ModuleFile{URL: name, Path: name, Parsed: modules[name].Copy()})
	}
	c := compile.New().WithTarget(compile.TargetPlan).WithRegoVersion(ast.RegoV1).WithCapabilities(caps).
		WithBundle(b).WithEntrypoints(entrypoints...).WithPruneUnused(true)
	if err := build(ctx, c); err != nil {
		return nil, fmt.Errorf("planning: %w", err)
	}
	plans := c.Bundle().PlanModules
	if len(plans) != 1 {
		return nil, fmt.Errorf("planning: OPA gave %d plans", len(plans))
	}
	var policy ir.Policy
	if err := json.Unmarshal(plans[0].Raw, &policy); err != nil {
		return nil, fmt.Errorf("reading the plan: %w", err)
	}
	p, err := translate(&policy, entrypoints)
	if err != nil {
		return nil, fmt.Errorf("translating the plan: %w", err)
	}
	p.capabilities = caps
	return p, nil
}

// build runs OPA's planner; its panics are errors.
func build(ctx context.Context, c *compile.Compiler) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return c.Build(ctx)
}

var errCannot = errors.New("the plan holds what this package does not run")
