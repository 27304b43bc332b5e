package plan

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// How a block ends, besides by leaving n more blocks, n > 0.
const (
	finished = -1      // all of it ran
	left     = 0       // a statement was undefined
	returned = 1 << 20 // the function has its value, or the evaluation ends
)

func (m *machine) get(f []*ast.Term, o int32) *ast.Term {
	if o >= 0 {
		return f[o]
	}
	return m.p.consts[-o-1]
}

// run runs a block over the variables f.
func (m *machine) run(b block, f []*ast.Term) int {
	for i := range b {
		s := &b[i]
		if m.steps--; m.steps < 0 && !m.tick() {
			return returned
		}
		switch s.op {
		case opAssign:
			f[s.t] = m.get(f, s.a)
		case opAssignOnce:
			v := m.get(f, s.a)
			if old := f[s.t]; old != nil && !equal(old, v) {
				m.fail(s.at, errConflict)
				continue
			}
			f[s.t] = v
		case opReset:
			f[s.t] = nil
		case opReturn:
			m.value = m.get(f, s.a)
			return returned
		case opResult:
			m.answers[s.t] = force(m.get(f, s.a))
		case opCall:
			v := m.call(s.fn, s.args, f)
			if m.err != nil {
				return returned
			}
			if f[s.t] = v; v == nil {
				return left
			}
		case opBlocks:
			for j := range s.blocks {
				if r := m.run(s.blocks[j], f); r > 0 {
					if r >= returned {
						return r
					}
					return r - 1
				}
			}
		case opBreak:
			return int(s.n)
		case opDot:
			v := dot(m.get(f, s.a), m.get(f, s.b))
			if f[s.t] = v; v == nil {
				return left
			}
		case opEqual:
			if !m.equal(m.get(f, s.a), m.get(f, s.b)) {
				return left
			}
		case opNotEqual:
			if m.equal(m.get(f, s.a), m.get(f, s.b)) {
				return left
			}
		case opIsDefined:
			if f[s.a] == nil {
				return left
			}
		case opIsUndefined:
			if f[s.a] != nil {
				return left
			}
		case opNot:
			if r := m.run(s.blocks[0], f); r == finished {
				return left
			} else if r >= returned {
				return r
			}
		case opMakeArray:
			f[s.t] = emptyArray
		case opMakeObject:
			f[s.t] = emptyObject
		case opMakeSet:
			f[s.t] = emptySet
		default:
			if r := m.other(s, f); r != finished {
				return r
			}
		}
	}
	return finished
}

// other runs the statements that are rarer.
func (m *machine) other(s *stmt, f []*ast.Term) int {
	switch s.op {
	case opScan:
		return m.scan(s, f)
	case opBuiltin:
		return m.builtin(s, f)
	case opCallDynamic:
		return m.callDynamic(s, f)
	case opWith:
		return m.with(s, f)
	case opEqualCall, opNotEqualCall, opLessCall, opLessOrEqualCall, opMoreCall, opMoreOrEqualCall, opMemberCall:
		a, b := force(m.get(f, s.a)), force(m.get(f, s.b))
		m.steps -= work(b)
		v := relation(s.op, a, b)
		if f[s.t] = v; v == nil {
			return left
		}
	case opLen:
		v := length(m.get(f, s.a))
		if f[s.t] = v; v == nil {
			return left
		}
	case opIsArray, opIsObject, opIsSet:
		if !is(s.op, m.get(f, s.a)) {
			return left
		}
	case opMerge:
		return m.merge(s, f)
	case opArray, opObject:
		return m.literal(s, f)
	case opAppend, opInsert, opInsertOnce, opAdd:
		if !m.build(perElement) {
			return returned
		}
		if !m.change(s, f) {
			m.fail(s.at, errConflict)
		}
		if m.err != nil {
			return returned
		}
	}
	return finished
}

// relation is the value of a built-in relation of two values.
func relation(o op, a, b *ast.Term) *ast.Term {
	if a == nil || b == nil {
		return nil
	}
	var is bool
	switch o {
	case opEqualCall:
		is = equal(a, b)
	case opNotEqualCall:
		is = !equal(a, b)
	case opLessCall:
		is = a.Value.Compare(b.Value) < 0
	case opLessOrEqualCall:
		is = a.Value.Compare(b.Value) <= 0
	case opMoreCall:
		is = a.Value.Compare(b.Value) > 0
	case opMoreOrEqualCall:
		is = a.Value.Compare(b.Value) >= 0
	case opMemberCall:
		is = member(a, b)
	}
	return ast.InternedTerm(is)
}

func member(a, b *ast.Term) bool {
	switch c := b.Value.(type) {
	case ast.Set:
		return c.Contains(a)
	case *ast.Array:
		for i := range c.Len() {
			if equal(a, c.Elem(i)) {
				return true
			}
		}
	case ast.Object:
		return c.Until(func(_, v *ast.Term) bool { return equal(a, v) })
	}
	return false
}

// equal compares as OPA does; undefined equals undefined.
func equal(a, b *ast.Term) bool {
	if a == b {
		return true
	}
	if a == nil || b == nil {
		return false
	}
	switch x := a.Value.(type) {
	case ast.String:
		y, ok := b.Value.(ast.String)
		return ok && x == y
	case ast.Boolean:
		y, ok := b.Value.(ast.Boolean)
		return ok && x == y
	}
	return ast.Compare(force(a).Value, force(b).Value) == 0
}

// equal is [equal], counted by how much there is to compare.
func (m *machine) equal(a, b *ast.Term) bool {
	if a == b {
		return true
	}
	m.steps -= work(b)
	return equal(a, b)
}

// work is how many more steps an operation over a value counts for.
func work(t *ast.Term) int {
	if t == nil {
		return 0
	}
	switch v := t.Value.(type) {
	case ast.String:
		return len(v) >> 8
	case *ast.Array:
		return v.Len() >> 2
	case ast.Object:
		return v.Len() >> 2
	case ast.Set:
		return v.Len() >> 2
	}
	return 0
}

// dot looks up a key; nil: there is nothing.
func dot(a, key *ast.Term) *ast.Term {
	if a == nil || key == nil {
		return nil
	}
	switch v := a.Value.(type) {
	case *Lazy:
		return v.get(key)
	case ast.Object:
		return v.Get(force(key))
	case *ast.Array:
		return v.Get(key)
	case ast.Set:
		if key = force(key); v.Contains(key) {
			return key
		}
	}
	return nil
}

func length(a *ast.Term) *ast.Term {
	if a == nil {
		return nil
	}
	switch v := force(a).Value.(type) {
	case ast.Object:
		return ast.InternedTerm(v.Len())
	case *ast.Array:
		return ast.InternedTerm(v.Len())
	case ast.Set:
		return ast.InternedTerm(v.Len())
	case ast.String:
		return ast.InternedTerm(len([]rune(v)))
	}
	return nil
}

func is(o op, a *ast.Term) bool {
	if a == nil {
		return false
	}
	var ok bool
	switch o {
	case opIsArray:
		_, ok = a.Value.(*ast.Array)
	case opIsObject:
		if _, ok = a.Value.(*Lazy); !ok {
			_, ok = a.Value.(ast.Object)
		}
	case opIsSet:
		_, ok = a.Value.(ast.Set)
	}
	return ok
}
