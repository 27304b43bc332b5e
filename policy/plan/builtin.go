package plan

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// builtin finds one of OPA's functions.
func (t *translator) builtin(name string) (*builtin, error) {
	if b := t.builtins[name]; b != nil {
		return b, nil
	}
	decl := ast.BuiltinMap[name]
	call := topdown.GetBuiltin(name)
	if decl == nil || call == nil {
		return nil, fmt.Errorf("the function %s: %w", name, errCannot)
	}
	b := &builtin{name: name, call: call, void: decl.Decl.Result() == nil, relation: decl.Relation,
		context: !decl.CanSkipBctx, check: checkOf(name)}
	t.builtins[name] = b
	return b, nil
}

// maxNumber is the longest number, in digits, that a function is given or gives.
const maxNumber = 4096

// builtin calls one of OPA's functions.
func (m *machine) builtin(s *stmt, f []*ast.Term) int {
	args := make([]*ast.Term, len(s.args))
	for i, o := range s.args {
		t := force(m.get(f, o))
		if t == nil {
			return left
		}
		if !m.fits(s.bi, t) {
			return returned
		}
		m.steps -= work(t)
		args[i] = t
	}
	if s.bi.check != nil {
		if m.err = s.bi.check(m, args); m.err != nil {
			return returned
		}
	}
	in := topdown.BuiltinContext{Location: s.at}
	if s.bi.context {
		m.prepare()
		in = m.context
		in.Location = s.at
	}
	m.got = m.got[:0]
	if err := s.bi.call(in, args, m.take); err != nil {
		return m.failed(s, err)
	}
	if m.err != nil {
		return returned
	}
	return m.result(s, f)
}

// failed is how a call ends that failed: like undefined, with the fault noted.
func (m *machine) failed(s *stmt, err error) int {
	if m.err != nil {
		return returned
	}
	if topdown.IsCancel(err) {
		m.err = fmt.Errorf("it took longer than %v: %w", m.q.Deadline, context.DeadlineExceeded)
		return returned
	}
	var halt topdown.Halt
	if errors.As(err, &halt) {
		err = halt.Err
	}
	m.fail(s.at, err)
	return left
}

// result takes what a function gave.
func (m *machine) result(s *stmt, f []*ast.Term) int {
	if s.bi.void {
		return finished
	}
	if s.bi.relation {
		all := make([]*ast.Term, len(m.got))
		copy(all, m.got)
		if !m.build(perElement * len(all)) {
			return returned
		}
		f[s.t] = ast.ArrayTerm(all...)
		return finished
	}
	if len(m.got) == 0 {
		f[s.t] = nil
		return left
	}
	t := m.got[0]
	if !m.fits(s.bi, t) || !m.build(size(t)) {
		return returned
	}
	f[s.t] = t
	return finished
}

// fits reports whether a text or number is short enough.
func (m *machine) fits(b *builtin, t *ast.Term) bool {
	switch v := t.Value.(type) {
	case ast.String:
		if len(v) > MaxText {
			m.err = &Limit{fmt.Sprintf("has %s work on a text of %d bytes; the bound is %d", b.name, len(v), MaxText)}
		}
	case ast.Number:
		if len(v) > maxNumber {
			m.err = &Limit{fmt.Sprintf("has %s work on a number of %d digits; the bound is %d", b.name, len(v), maxNumber)}
		}
	}
	return m.err == nil
}

// size is what a new value takes in bytes, roughly, without what its elements do.
func size(t *ast.Term) int {
	switch v := t.Value.(type) {
	case ast.String:
		return 48 + len(v)
	case *ast.Array:
		return 64 + v.Len()*perElement
	case ast.Object:
		return 64 + v.Len()*perElement
	case ast.Set:
		return 64 + v.Len()*perElement
	}
	return 16
}

// callDynamic calls the function that the path names, if there is one. If it is
// undefined, so is the reference: data is not looked at.
func (m *machine) callDynamic(s *stmt, f []*ast.Term) int {
	var name strings.Builder
	for i, o := range s.args {
		t := m.get(f, o)
		if t == nil {
			return left
		}
		part, ok := t.Value.(ast.String)
		if !ok {
			return left
		}
		if i > 0 {
			name.WriteByte(0)
		}
		name.WriteString(string(part))
	}
	fn := m.p.dynamic[name.String()]
	if fn == nil {
		return left
	}
	v := m.call(fn, []int32{s.a, s.b}, f)
	if m.err != nil {
		return returned
	}
	if f[s.t] = v; v == nil {
		return 3 // past the look into data, see OPA's planner
	}
	return finished
}
