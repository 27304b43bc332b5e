package policies

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/util"

	"behalf/policy"
)

// TestDefaults runs the tests of the default policies, which must reach every
// line of every rule.
func TestDefaults(t *testing.T) {
	for _, p := range policy.Check("", FS) {
		t.Error(p)
	}
	var out bytes.Buffer
	report, ok, err := policy.Test(t.Context(), "", FS, nil, &out)
	if err != nil {
		t.Fatal(err)
	}
	if !ok || report.Coverage < 100 {
		t.Errorf("ok %v, coverage %.1f%%\n%s", ok, report.Coverage, out.String())
	}
}

// TestEachRuleBothWays asks that each result rule has a test in which it fires,
// and one in which it is asked and does not: coverage alone would be content with
// a rule that is always true.
func TestEachRuleBothWays(t *testing.T) {
	modules, data := parse(t)
	compiler := ast.NewCompiler()
	if compiler.Compile(modules); compiler.Failed() {
		t.Fatal(compiler.Errors)
	}
	store := inmem.NewFromObject(data)
	seen := bothWays{fired: map[string]bool{}, not: map[string]bool{}, open: map[uint64]string{}}
	for file, m := range modules {
		for _, r := range m.Rules {
			if !strings.HasPrefix(r.Head.Name.String(), "test_") {
				continue
			}
			q, err := rego.New(rego.Compiler(compiler), rego.Store(store), rego.Query(r.Ref().String())).PrepareForEval(t.Context())
			if err == nil { // an index would pass over what does not fire
				_, err = q.Eval(t.Context(), rego.EvalQueryTracer(&seen), rego.EvalRuleIndexing(false))
			}
			if err != nil {
				t.Fatal(file, err)
			}
			seen.end()
		}
	}
	results := 0
	for file, m := range modules {
		for _, r := range m.Rules {
			if r.Head.Key == nil || !isResult(r) {
				continue
			}
			results++
			at := r.Location.String()
			if !seen.fired[at] || !seen.not[at] {
				t.Errorf("%s: %s at line %d: a test in which it fires: %v, in which it does not: %v", file, r.Head.Name, r.Location.Row, seen.fired[at], seen.not[at])
			}
		}
	}
	if results < 10 {
		t.Errorf("only %d rules were found", results)
	}
}

// isResult reports whether a rule gives an object with the name of a rule.
func isResult(r *ast.Rule) bool {
	object, ok := r.Head.Key.Value.(ast.Object)
	return ok && object.Get(ast.StringTerm("rule")) != nil
}

// parse reads the policies, with their tests, and their data.
func parse(t *testing.T) (modules map[string]*ast.Module, data map[string]any) {
	t.Helper()
	modules = map[string]*ast.Module{}
	entries, err := FS.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := FS.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		switch filepath.Ext(e.Name()) {
		case ".rego":
			modules[e.Name()], err = ast.ParseModule(e.Name(), string(text))
		case ".yaml":
			err = util.Unmarshal(text, &data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return modules, data
}

// bothWays notes, by where a rule stands, whether it ever came to its end and
// whether it ever did not.
type bothWays struct {
	fired, not map[string]bool
	open       map[uint64]string // by query: entered, and not at its end so far
}

func (b *bothWays) Enabled() bool               { return true }
func (b *bothWays) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

func (b *bothWays) TraceEvent(e topdown.Event) {
	r, ok := e.Node.(*ast.Rule)
	if !ok {
		return
	}
	switch at := r.Location.String(); e.Op {
	case topdown.EnterOp:
		b.open[e.QueryID] = at
	case topdown.ExitOp:
		b.fired[at] = true
		delete(b.open, e.QueryID)
	}
}

// end ends a test: what is open now did not fire.
func (b *bothWays) end() {
	for _, at := range b.open {
		b.not[at] = true
	}
	clear(b.open)
}
