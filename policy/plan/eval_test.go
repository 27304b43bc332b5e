package plan

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

func load(t *testing.T, src, entry string) *Program {
	t.Helper()
	m, err := ast.ParseModuleWithOpts("m.rego", src, ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		t.Fatal(err)
	}
	c := ast.NewCompiler()
	if c.Compile(map[string]*ast.Module{"m.rego": m}); c.Failed() {
		t.Fatal(c.Errors)
	}
	p, err := Load(t.Context(), c, []string{entry})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// counted is an input that counts how often its fields are made.
type counted struct {
	Lazy
	made map[string]int
}

func (c *counted) Field(name string) *ast.Term {
	c.made[name]++
	if name == "a" || name == "b" {
		return ast.InternedTerm(len(name))
	}
	return nil
}

func (c *counted) Whole() *ast.Term {
	c.made["*"]++
	return ast.MustParseTerm(`{"a": 1, "b": 1}`)
}

// TestLazy shows that a field is made once, when it is read, and that what is
// not read is not made.
func TestLazy(t *testing.T) {
	data := ast.ObjectTerm()
	for rule, want := range map[string]map[string]int{
		`p if { input.a == 1; input.a < 2 }`: {"a": 1},
		`p if not input.c`:                   {"c": 1},
		`p if input.a == input.b`:            {"a": 1, "b": 1},
		`p if count(input) == 2`:             {"*": 1},
		`p if { input.a; input == input }`:   {"a": 1},
	} {
		p := load(t, "package x\n"+rule, "x/p")
		in := &counted{made: map[string]int{}}
		out := make([]*ast.Term, 1)
		if err := p.Eval(t.Context(), Question{Input: in.Of(in), Data: data}, out); err != nil || out[0] == nil {
			t.Errorf("%s: %v, %v", rule, out[0], err)
		}
		for name, n := range want {
			if in.made[name] != n {
				t.Errorf("%s: made %v, want %v", rule, in.made, want)
			}
		}
		if in.made["*"] != want["*"] {
			t.Errorf("%s: made %v, want %v", rule, in.made, want)
		}
	}
}

// TestConcurrent shows that many may ask at once, and that one's values are not
// another's.
func TestConcurrent(t *testing.T) {
	p := load(t, `package x
p contains [input.n, w, helper] if some w in {"b", "a", "c"} | {input.n}
helper := {"fixed": ["x", {"y"}], "n": input.n}`, "x/p")
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			in := ast.ObjectTerm(ast.Item(ast.StringTerm("n"), ast.InternedTerm(n)))
			out := make([]*ast.Term, 1)
			for range 200 {
				if err := p.Eval(context.Background(), Question{Input: in, Data: ast.ObjectTerm()}, out); err != nil {
					t.Error(err)
					return
				}
				for _, e := range out[0].Value.(ast.Set).Slice() {
					if !e.Value.(*ast.Array).Elem(0).Equal(ast.InternedTerm(n)) {
						t.Errorf("asked for %d, got %v", n, out[0])
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

// TestErrors shows which errors an evaluation ends in.
func TestErrors(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	var limit *Limit
	var fault *Fault
	for _, c := range []struct {
		ctx  context.Context
		rule string
		ok   func(error) bool
	}{
		{t.Context(), `p if to_number(input) == 1`, func(err error) bool { return errors.As(err, &fault) && fault.At == "m.rego:2" }},
		{t.Context(), "p := 1 if input\np := 2 if true", func(err error) bool { return errors.As(err, &fault) }},
		{t.Context(), `p if count(numbers.range(1, 50000000)) > 1`, func(err error) bool { return errors.As(err, &limit) }},
		{cancelled, `p if true`, func(err error) bool { return errors.Is(err, context.Canceled) }},
	} {
		p := load(t, "package x\n"+c.rule, "x/p")
		err := p.Eval(c.ctx, Question{Input: ast.StringTerm("x"), Data: ast.ObjectTerm()}, make([]*ast.Term, 1))
		if !c.ok(err) {
			t.Errorf("%s: %v", c.rule, err)
		}
	}
}
