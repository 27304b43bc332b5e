package policy

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"behalf/mail"
)

// Check reads the policy folder at path (empty: the defaults) and says all that
// is wrong with it; none means that it can go into force.
func Check(path string, defaults fs.FS) Problems {
	dir, _, err := openFolder(path, defaults)
	if err != nil {
		return Problems{{Message: err.Error()}}
	}
	src, err := readSource(dir)
	if err != nil {
		return Problems{{Message: err.Error()}}
	}
	_, problems := compile(src, nil)
	return problems
}

// checkModule finds what OPA's compiler cannot know to be wrong: packages that
// nobody asks, and rules that look like results but would never be seen.
func checkModule(m *ast.Module) Problems {
	pkg := packagePath(m)
	at := func(loc *ast.Location, format string, args ...any) Problem {
		return Problem{File: loc.File, Line: loc.Row, Message: fmt.Sprintf(format, args...)}
	}
	if stageOf(pkg) < 0 {
		if reserved(pkg) {
			return Problems{at(m.Package.Location, "no stage is called %s; the stages are %s", pkg, strings.Join(Packages(), ", "))}
		}
		return nil
	}
	var problems Problems
	for _, r := range m.Rules {
		name := headName(r)
		multi := r.Head.RuleKind() == ast.MultiValue
		key, _ := literalOf(r)
		switch {
		case isResult(pkg, name) && (!multi || len(r.Head.Ref()) != 1 || r.Default):
			problems = append(problems, at(r.Location, "%s is a result: write it as  %s contains {\"rule\": …} if …", name, name))
		case isResult(pkg, name) && key != nil:
			problems = append(problems, checkLiteral(name, key, r.Location)...)
		case isResult(pkg, name) && ast.IsConstant(r.Head.Key.Value):
			problems = append(problems, at(r.Location, "%s: a result must be an object, this is %s", name, ast.ValueName(r.Head.Key.Value)))
		case !isResult(pkg, name) && !inbound(pkg) && isResult(PackageMessage, name):
			problems = append(problems, at(r.Location, "%s acts at the message stage only: write it in package %s", name, PackageMessage))
		case multi && key != nil && key["rule"] != nil:
			problems = append(problems, at(r.Location, "no result is called %s; the results are %s", name, strings.Join(resultNames(pkg), ", ")))
		}
	}
	return problems
}

// headName is the first part of a rule's name.
func headName(r *ast.Rule) string {
	if v, ok := r.Head.Ref()[0].Value.(ast.Var); ok {
		return string(v)
	}
	return ""
}

// literalOf gives the fields of the object that a "contains" rule writes out in
// its head; constant is false when a name in it is computed. It is nil when the
// head holds something else.
func literalOf(r *ast.Rule) (object map[string]*ast.Term, constant bool) {
	if r.Head.Key == nil {
		return nil, false
	}
	obj, ok := r.Head.Key.Value.(ast.Object)
	if !ok {
		return nil, false
	}
	object, constant = map[string]*ast.Term{}, true
	obj.Foreach(func(k, v *ast.Term) {
		s, ok := k.Value.(ast.String)
		constant = constant && ok
		if ok {
			object[string(s)] = v
		}
	})
	return object, constant
}

// checkLiteral checks the names, and the constants, of a result written out.
func checkLiteral(result string, object map[string]*ast.Term, loc *ast.Location) Problems {
	var problems Problems
	add := func(format string, args ...any) {
		problems = append(problems, Problem{File: loc.File, Line: loc.Row, Message: fmt.Sprintf(format, args...)})
	}
	spec := resultSpec(result)
	for _, name := range sortedKeys(object) {
		if !slices.Contains(spec.fields, name) {
			add("%s has no field %q; it has %s", result, name, strings.Join(spec.fields, ", "))
		}
	}
	for _, name := range append([]string{"rule"}, spec.required...) {
		if object[name] == nil {
			add("%s lacks the field %q", result, name)
		}
	}
	if len(problems) > 0 {
		return problems
	}
	// Constants can be read as at run time, with samples for what is computed.
	obj := ast.NewObject()
	for name, t := range object {
		if !ast.IsConstant(t.Value) {
			if t = sampleOf(result, name, object); t == nil {
				continue
			}
		}
		obj.Insert(ast.StringTerm(name), t)
	}
	var d draft
	if err := d.add(result, ast.NewTerm(obj)); err != nil {
		add("%v", err)
	}
	return problems
}

// sampleOf is a value that a computed field of a result may have; nil for one
// that may be left out. What a rewrite may have depends on what it does.
func sampleOf(result, field string, object map[string]*ast.Term) *ast.Term {
	text := func(s string) *ast.Term { return ast.StringTerm(s) }
	switch field {
	case "rule", "reason":
		return text("…")
	case "key":
		return ast.ArrayTerm(text("…"))
	case "count":
		return text(string(CountMessages))
	case "per":
		return text("1h")
	case "rate", "points", "until":
		return ast.InternedTerm(1)
	case "use":
		if result == "method" {
			return text(string(mail.MethodDomain))
		}
		return text(string(mail.UpstreamMX))
	case "op":
		switch {
		case object["name"] == nil:
			return text("subject_prefix")
		case object["value"] == nil:
			return text("remove_header")
		}
		return text("add_header")
	case "name":
		return text("Sample")
	case "value":
		return text("…")
	}
	return nil
}

// ruleFiles finds the file of each rule whose name is written out.
func ruleFiles(modules map[string]*ast.Module) map[ruleName]string {
	files := map[ruleName]string{}
	for file, m := range modules {
		for _, r := range m.Rules {
			object, _ := literalOf(r)
			if object == nil || object["rule"] == nil {
				continue
			}
			if s, ok := object["rule"].Value.(ast.String); ok {
				files[ruleName{packagePath(m), headName(r), string(s)}] = file
			}
		}
	}
	return files
}

// reachable are the modules of package root and of the helper packages that it
// refers to, however far. Another stage's package is not to be referred to: it
// has another input.
func reachable(modules map[string]*ast.Module, root string) (map[string]*ast.Module, Problems) {
	found := map[string]*ast.Module{}
	var problems Problems
	todo := []string{root}
	for len(todo) > 0 {
		pkg := todo[0]
		todo = todo[1:]
		for file, m := range modules {
			if packagePath(m) != pkg || found[file] != nil {
				continue
			}
			found[file] = m
			for _, ref := range dataRefs(m) {
				for _, other := range modules {
					name := packagePath(other)
					if name == pkg || !overlaps(ref, other.Package.Path) {
						continue
					}
					if stageOf(name) >= 0 {
						problems = append(problems, Problem{File: ref[0].Location.File, Line: ref[0].Location.Row,
							Message: fmt.Sprintf("%s refers to %s, which is another stage's; put what both need into a package of its own", pkg, name)})
						continue
					}
					todo = append(todo, name)
				}
			}
		}
	}
	if len(found) > 0 && !slices.ContainsFunc(mapValues(found), func(m *ast.Module) bool { return packagePath(m) == root }) {
		return nil, problems
	}
	return found, problems
}

func mapValues(m map[string]*ast.Module) []*ast.Module {
	list := make([]*ast.Module, 0, len(m))
	for _, v := range m {
		list = append(list, v)
	}
	return list
}

// dataRefs are the references of a module that begin with data, imports
// included.
func dataRefs(m *ast.Module) []ast.Ref {
	var refs []ast.Ref
	ast.WalkRefs(m, func(r ast.Ref) bool {
		if r.HasPrefix(ast.DefaultRootRef) {
			refs = append(refs, r)
		}
		return false
	})
	return slices.DeleteFunc(refs, func(r ast.Ref) bool { return r.Equal(m.Package.Path) })
}

// overlaps reports whether ref may reach the package at path: one is the
// beginning of the other, as far as ref is constant.
func overlaps(ref, path ast.Ref) bool {
	ref = ref.ConstantPrefix()
	n := min(len(ref), len(path))
	return ref[:n].Equal(path[:n])
}

// checkData finds references to data that is neither a rule nor in the data
// files: such a rule would silently never fire.
func checkData(c *ast.Compiler, data map[string]any) Problems {
	var problems Problems
	for _, m := range c.Modules {
		ast.WalkRefs(m, func(r ast.Ref) bool {
			if !r.HasPrefix(ast.DefaultRootRef) {
				return false
			}
			prefix := r.ConstantPrefix()
			if len(prefix) == 1 || inRules(c, prefix) || inData(data, prefix[1:]) {
				return false
			}
			loc := r[0].Location
			if loc == nil {
				loc = m.Package.Location
			}
			problems = append(problems, Problem{File: loc.File, Line: loc.Row,
				Message: fmt.Sprintf("%s is neither a rule nor in the data files", prefix)})
			return false
		})
	}
	return problems
}

// inRules reports whether ref leads to a rule, or to a package, or into what a
// rule computes.
func inRules(c *ast.Compiler, ref ast.Ref) bool {
	node := c.RuleTree
	for _, t := range ref {
		next := node.Child(t.Value)
		if next == nil {
			return len(node.Values) > 0
		}
		node = next
	}
	return true
}

// inData reports whether the data files have something at path. Lists are not
// looked into: their places are numbers, and numbers are not constant names.
func inData(data map[string]any, path ast.Ref) bool {
	var at any = data
	for _, t := range path {
		m, ok := at.(map[string]any)
		if !ok {
			_, list := at.([]any)
			return list
		}
		name, ok := t.Value.(ast.String)
		if !ok {
			return true
		}
		if at, ok = m[string(name)]; !ok {
			return false
		}
	}
	return true
}
