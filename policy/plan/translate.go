package plan

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// translator turns OPA's plan into a Program.
type translator struct {
	policy   *ir.Policy
	p        *Program
	strings  []int32 // constant of each string of the plan; 0: not built yet
	numbers  map[string]int32
	builtins map[string]*builtin
	byName   map[string]*function
	fn       *function
	facts    *facts // of the function being translated
}

const (
	constTrue  = -1
	constFalse = -2
	constNull  = -3
)

func translate(policy *ir.Policy, entrypoints []string) (*Program, error) {
	t := &translator{
		policy:   policy,
		p:        &Program{dynamic: map[string]*function{}},
		strings:  make([]int32, len(policy.Static.Strings)),
		numbers:  map[string]int32{},
		builtins: map[string]*builtin{},
		byName:   map[string]*function{},
	}
	t.p.consts = []*ast.Term{ast.InternedTerm(true), ast.InternedTerm(false), ast.InternedNullTerm}
	for _, f := range policy.Funcs.Funcs {
		fn := &function{name: f.Name, index: len(t.p.functions), pure: len(f.Params) == 2}
		for _, l := range f.Params {
			fn.params = append(fn.params, int32(l))
		}
		t.p.functions = append(t.p.functions, fn)
		t.byName[f.Name] = fn
		if len(f.Path) > 0 && fn.pure {
			t.p.dynamic[strings.Join(f.Path, "\x00")] = fn
		}
	}
	for i, f := range policy.Funcs.Funcs {
		if err := t.function(t.p.functions[i], f.Blocks, f.Return); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	if len(policy.Plans.Plans) != 1 {
		return nil, fmt.Errorf("OPA gave %d plans", len(policy.Plans.Plans))
	}
	t.p.entry = function{name: "entry points", params: []int32{int32(ir.Input), int32(ir.Data)}}
	if err := t.function(&t.p.entry, policy.Plans.Plans[0].Blocks, -1); err != nil {
		return nil, err
	}
	names := map[string]int32{}
	for i := range entrypoints {
		names[answerName(i)] = int32(i)
	}
	if err := t.answers(t.p.entry.body, names); err != nil {
		return nil, err
	}
	return t.p, nil
}

func (t *translator) function(fn *function, blocks []*ir.Block, result ir.Local) error {
	t.fn, t.facts = fn, examine(t, blocks, result)
	for _, l := range fn.params {
		t.variable(ir.Local(l))
	}
	var err error
	fn.body, err = t.blocks(blocks)
	if result >= 0 { // an entry point's own object is no value, see answers
		tidy(fn.body)
	}
	return err
}

// tidy gathers literals in all blocks.
func tidy(blocks []block) {
	for i := range blocks {
		for j := range blocks[i] {
			tidy(blocks[i][j].blocks)
		}
		blocks[i] = gather(blocks[i])
	}
}

// answers turns the making of a result object into the answers themselves: its
// keys are the names of the entry points.
func (t *translator) answers(blocks []block, names map[string]int32) error {
	for i := range blocks {
		b := blocks[i]
		n := len(b)
		if n == 0 || b[n-1].op != opResult {
			for j := range b {
				if err := t.answers(b[j].blocks, names); err != nil {
					return err
				}
			}
			continue
		}
		object := b[n-1].a
		for n--; n > 0 && b[n-1].op == opInsert && b[n-1].t == object; n-- {
			name, ok := t.term(b[n-1].a).Value.(ast.String)
			entry, known := names[string(name)]
			if !ok || !known {
				return fmt.Errorf("an answer that nobody asked for: %w", errCannot)
			}
			b[n-1] = stmt{op: opResult, t: entry, a: b[n-1].b}
		}
		if len(b)-1-n != len(names) || n == 0 || b[n-1].op != opMakeObject || b[n-1].t != object {
			return fmt.Errorf("the entry points do not end in an answer: %w", errCannot)
		}
		blocks[i] = slices.Delete(b[:len(b)-1], n-1, n)
	}
	return nil
}

func (t *translator) blocks(list []*ir.Block) ([]block, error) {
	all := make([]block, len(list))
	for i, b := range list {
		var err error
		if all[i], err = t.block(b); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (t *translator) block(b *ir.Block) (block, error) {
	all := make(block, 0, len(b.Stmts))
	for _, s := range b.Stmts {
		if t.facts.dropped[s] {
			continue
		}
		one, err := t.stmt(s)
		if err != nil {
			return nil, err
		}
		if l := s.GetLocation(); l != nil && needsPlace(one.op) {
			one.at = t.place(l)
		}
		if t.facts.ends[s] {
			one = stmt{op: opReturn, a: one.a}
		}
		one.strange = t.facts.owns
		all = append(all, one)
	}
	return all, nil
}

func needsPlace(o op) bool {
	switch o {
	case opBuiltin, opAssignOnce, opInsertOnce, opMerge, opAdd, opInsert:
		return true
	}
	return false
}

func (t *translator) place(l *ir.Location) *ast.Location {
	file := ""
	if l.File >= 0 && l.File < len(t.policy.Static.Files) {
		file = t.policy.Static.Files[l.File].Value
	}
	return &ast.Location{File: file, Row: l.Row, Col: l.Col}
}

// variable notes that the function has the variable.
func (t *translator) variable(l ir.Local) int32 {
	t.fn.vars = max(t.fn.vars, int(l)+1)
	return int32(l)
}

func (t *translator) operand(o ir.Operand) int32 {
	switch v := o.Value.(type) {
	case ir.Bool:
		if v {
			return constTrue
		}
		return constFalse
	case ir.StringIndex:
		return t.str(int(v))
	case ir.Local:
		return t.variable(v)
	case *ir.Bool:
		return t.operand(ir.Operand{Value: *v})
	case *ir.StringIndex:
		return t.operand(ir.Operand{Value: *v})
	case *ir.Local:
		return t.operand(ir.Operand{Value: *v})
	}
	panic(fmt.Sprintf("an operand of type %T", o.Value))
}

func (t *translator) operands(list []ir.Operand) []int32 {
	all := make([]int32, len(list))
	for i, o := range list {
		all[i] = t.operand(o)
	}
	return all
}

func (t *translator) constant(term *ast.Term) int32 {
	t.p.consts = append(t.p.consts, term)
	return -int32(len(t.p.consts))
}

func (t *translator) str(i int) int32 {
	if t.strings[i] == 0 {
		t.strings[i] = t.constant(ast.StringTerm(t.policy.Static.Strings[i].Value))
	}
	return t.strings[i]
}

func (t *translator) number(text string) int32 {
	if i, ok := t.numbers[text]; ok {
		return i
	}
	t.numbers[text] = t.constant(ast.NumberTerm(json.Number(text)))
	return t.numbers[text]
}

// term is the constant that an operand names.
func (t *translator) term(o int32) *ast.Term { return t.p.consts[-o-1] }
