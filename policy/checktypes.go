package policy

import (
	"fmt"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
)

// checkResultTypes finds results that are computed and can never be an object.
func checkResultTypes(c *ast.Compiler, modules map[string]*ast.Module, pkg string) Problems {
	var problems Problems
	for file, parsed := range modules {
		if packagePath(parsed) != pkg {
			continue
		}
		objects := objectsIn(parsed)
		for _, r := range c.Modules[file].Rules {
			name := headName(r)
			if !isResult(pkg, name) || r.Head.Key == nil || objects[r.Location] {
				continue
			}
			if t := typeOfKey(c, r); t != nil && !mayBeObject(t) {
				problems = append(problems, Problem{File: r.Location.File, Line: r.Location.Row,
					Message: fmt.Sprintf("%s: a result must be an object, this is %s", name, types.Sprint(t))})
			}
		}
	}
	return problems
}

// objectsIn are the places of rules that put an object into a set, as one sees.
func objectsIn(m *ast.Module) map[*ast.Location]bool {
	places := map[*ast.Location]bool{}
	for _, r := range m.Rules {
		if r.Head.Key != nil {
			_, places[r.Location] = r.Head.Key.Value.(ast.Object)
		}
	}
	return places
}

// typeOfKey is the type of what a compiled "contains" rule puts into its set;
// nil when it cannot be told.
func typeOfKey(c *ast.Compiler, r *ast.Rule) types.Type {
	q := c.QueryCompiler()
	if _, err := q.Compile(r.Body); err != nil {
		return nil
	}
	return q.TypeEnv().GetByValue(r.Head.Key.Value)
}

func mayBeObject(t types.Type) bool {
	switch t := t.(type) {
	case types.Null, types.Boolean, types.Number, types.String, *types.Array, *types.Set:
		return false
	case types.Any:
		return len(t) == 0 || slices.ContainsFunc(t, mayBeObject)
	}
	return true
}

// checkGets finds look-ups with object.get of what the input can never have,
// which would silently give the default: OPA's type checker looks at references
// only, so it is shown the look-ups written as such.
func checkGets(modules map[string]*ast.Module, schemas *ast.SchemaSet) Problems {
	rewritten, any := maps.Clone(modules), false
	for file, m := range modules {
		if !mentions(m, ast.ObjectGet.Ref()) {
			continue
		}
		m = m.Copy()
		found, err := getsToRefs(m)
		if err != nil {
			return Problems{{File: file, Message: err.Error()}}
		}
		rewritten[file], any = m, any || found
	}
	if !any {
		return nil
	}
	c := ast.NewCompiler().WithCapabilities(capabilities()).WithSchemas(schemas).WithOnlyStagesUpTo(ast.StageCheckTypes)
	c.SetErrorLimit(0)
	c.Compile(rewritten)
	var undefined ast.Errors
	for _, err := range c.Errors {
		switch err.Details.(type) {
		case *ast.RefErrInvalidDetail, *ast.RefErrUnsupportedDetail:
			undefined = append(undefined, err)
		}
	}
	return problemsOf("", undefined)
}

// mentions tells whether a reference stands in a module.
func mentions(m *ast.Module, ref ast.Ref) (found bool) {
	ast.WalkRefs(m, func(r ast.Ref) bool {
		found = found || r.Equal(ref)
		return found
	})
	return found
}

// getsToRefs writes each look-up with object.get and constant names as the
// reference that it stands for, and tells whether there was one.
func getsToRefs(m *ast.Module) (found bool, err error) {
	_, err = ast.Transform(ast.NewGenericTransformer(func(x any) (any, error) {
		switch x := x.(type) {
		case ast.Call:
			if r := refOf(ast.NewTerm(x)); r != nil {
				found = true
				return r, nil
			}
		case ast.Ref: // of what a look-up gives, as in object.get(…).name
			if r := refOf(x[0]); len(r) > 1 {
				found = true
				return append(r, x[1:]...), nil
			}
		case *ast.Expr:
			terms, ok := x.Terms.([]*ast.Term)
			if !ok {
				break
			}
			if r := refOf(ast.NewTerm(ast.Call(terms)).SetLocation(x.Location)); r != nil {
				found = true
				x.Terms = ast.NewTerm(r).SetLocation(x.Location)
			}
		}
		return x, nil
	}), m)
	return found, err
}

// refOf is the reference that a variable, a reference, or a look-up in one of
// them stands for; nil for anything else.
func refOf(t *ast.Term) ast.Ref {
	switch v := t.Value.(type) {
	case ast.Var:
		return ast.Ref{t}
	case ast.Ref:
		if base := refOf(v[0]); len(base) > 1 {
			return append(base, v[1:]...)
		}
		return append(ast.Ref(nil), v...)
	case ast.Call:
		if len(v) != 4 || v[0].String() != ast.ObjectGet.Name {
			return nil
		}
		base := refOf(v[1])
		if base == nil {
			return nil
		}
		path := []*ast.Term{v[2]}
		if list, ok := v[2].Value.(*ast.Array); ok {
			path = path[:0]
			list.Foreach(func(t *ast.Term) { path = append(path, t) })
		}
		for _, t := range path {
			if _, ok := t.Value.(ast.String); !ok {
				return nil
			}
			base = append(base, t)
		}
		if len(path) > 0 {
			return base
		}
	}
	return nil
}
