package plan

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/test/cases"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// TestConformance runs the cases by which OPA checks its own evaluators. What
// OPA's evaluator answers to a case, a program must answer; where it fails, the
// program must not answer.
func TestConformance(t *testing.T) {
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/open-policy-agent/opa").Output()
	if err != nil {
		t.Skip("the source of OPA is not at hand: ", err)
	}
	set, err := cases.Load(filepath.Join(strings.TrimSpace(string(dir)), "v1", "test", "cases", "testdata", "v1"))
	if err != nil {
		t.Skip("OPA's cases are not at hand: ", err)
	}
	same, skipped := 0, map[string]int{}
	for _, c := range set.Sorted().Cases {
		t.Run(c.Note, func(t *testing.T) {
			if why := excluded(c); why != "" {
				skipped[why]++
				t.Skip(why)
			}
			conform(t, c)
			if !t.Skipped() {
				same++
			}
		})
	}
	t.Logf("%d cases the same, skipped: %v", same, skipped)
	if same < 1800 {
		t.Errorf("only %d cases were compared", same)
	}
}

// excluded tells why a case cannot apply; empty: it does.
func excluded(c cases.TestCase) string {
	group := filepath.Base(filepath.Dir(c.Filename))
	switch {
	case c.ExperimentalKeywords:
		return "asks for keywords that are not on"
	case len(c.Env) > 0:
		return "asks for the environment"
	case group == "netlookupipaddr", group == "rand", group == "uuid", group == "providers-aws":
		return "a function that policies do not have"
	}
	return ""
}

const question = "package conformance\n\nanswer contains x if {\n\t%s\n}\n"

func conform(t *testing.T, c cases.TestCase) {
	query := strings.TrimSpace(c.Query)
	body := query
	if !strings.HasSuffix(query, "= x") {
		body = "x := true\n\t" + query
	}
	modules := map[string]*ast.Module{}
	for i, src := range append(c.Modules, fmt.Sprintf(question, body)) {
		name := fmt.Sprintf("m%d.rego", i)
		m, err := ast.ParseModuleWithOpts(name, src, ast.ParserOptions{RegoVersion: ast.RegoV1, ProcessAnnotation: true})
		if err != nil {
			t.Skip("does not parse: ", err)
		}
		modules[name] = m
	}
	compiler := ast.NewCompiler()
	if compiler.Compile(modules); compiler.Failed() {
		t.Skip("does not compile: ", compiler.Errors)
	}
	data := ast.NewObject()
	if c.Data != nil {
		data = ast.MustInterfaceToValue(*c.Data).(ast.Object)
	}
	var input *ast.Term
	if c.InputTerm != nil {
		input = ast.MustParseTerm(*c.InputTerm)
	} else if c.Input != nil {
		input = ast.NewTerm(ast.MustInterfaceToValue(*c.Input))
	}
	want, wantErr := byOPA(t, compiler, "data.conformance.answer", data, input)
	p, err := Load(context.Background(), modules, []string{"conformance/answer"}, ast.CapabilitiesForThisVersion())
	if err != nil {
		t.Fatalf("cannot plan: %v", err)
	}
	out := make([]*ast.Term, 1)
	err = p.Eval(t.Context(), Question{Input: input, Data: ast.NewTerm(data)}, out)
	switch {
	case err != nil && wantErr != nil:
	case err != nil:
		t.Errorf("OPA gives %v; here: %v", want, err)
	case wantErr != nil:
		t.Errorf("OPA fails: %v; here: %v", wantErr, out[0])
	case want == nil || out[0] == nil:
		if want != nil || out[0] != nil {
			t.Errorf("OPA gives %v; here: %v", want, out[0])
		}
	case ast.Compare(want.Value, out[0].Value) != 0:
		t.Errorf("OPA gives %v;\nhere: %v", want, out[0])
	}
}

// byOPA is what OPA's evaluator answers.
func byOPA(t *testing.T, compiler *ast.Compiler, ref string, data ast.Object, input *ast.Term) (*ast.Term, error) {
	t.Helper()
	store := inmem.NewFromASTObject(data)
	txn, err := store.NewTransaction(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Abort(t.Context(), txn)
	query, err := compiler.QueryCompiler().Compile(ast.MustParseBody(ref + " = x"))
	if err != nil {
		t.Fatal(err)
	}
	rs, err := topdown.NewQuery(query).WithCompiler(compiler).WithStore(store).WithTransaction(txn).
		WithInput(input).WithStrictBuiltinErrors(true).Run(t.Context())
	if err != nil || len(rs) == 0 {
		return nil, err
	}
	return rs[0]["x"], nil
}
