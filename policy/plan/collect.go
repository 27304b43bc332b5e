package plan

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// What an empty collection is until something is added to it. They are never
// changed.
var (
	emptyArray  = ast.NewTerm(ast.NewArray())
	emptyObject = ast.NewTerm(ast.NewObject())
	emptySet    = ast.NewTerm(ast.NewSet())
)

// perElement is what an element costs in bytes, roughly.
const perElement = 128

// change adds to the collection in s.t. It reports false on a conflict.
func (m *machine) change(s *stmt, f []*ast.Term) bool {
	a := force(m.get(f, s.a))
	if a == nil {
		return true
	}
	switch s.op {
	case opAppend:
		if arr, ok := f[s.t].Value.(*ast.Array); ok {
			f[s.t] = ast.NewTerm(arr.Append(a))
			return true
		}
	case opAdd:
		if set, ok := m.own(s, f).(ast.Set); ok {
			set.Add(a)
			return true
		}
	case opInsert, opInsertOnce:
		b := force(m.get(f, s.b))
		if b == nil {
			return true
		}
		obj, ok := m.own(s, f).(ast.Object)
		if !ok {
			return false
		}
		old := obj.Get(a)
		if old == nil || s.op == opInsert {
			if old != nil && !m.build(obj.Len()*8) {
				return true
			}
			obj.Insert(a, b)
			return true
		}
		return equal(old, b)
	}
	return false
}

// own is the set or object in a variable, made when it still is a constant; nil
// when it was not made here and so must not be changed.
func (m *machine) own(s *stmt, f []*ast.Term) ast.Value {
	var v ast.Value
	switch t := f[s.t]; t {
	case nil:
		return nil
	case emptySet:
		v = ast.NewSet()
	case emptyObject:
		v = ast.NewObject()
	default:
		if !s.strange {
			return t.Value
		}
		if _, ok := m.owned[t.Value]; ok {
			return t.Value
		}
		return nil
	}
	if s.strange {
		if m.owned == nil {
			m.owned = map[ast.Value]struct{}{}
		}
		m.owned[v] = struct{}{}
	}
	f[s.t] = ast.NewTerm(v)
	return v
}

// merge merges two objects recursively.
func (m *machine) merge(s *stmt, f []*ast.Term) int {
	a, b := force(f[s.a]), force(f[s.b])
	if a == nil || b == nil {
		return left
	}
	f[s.t] = m.mergeTerms(s, a, b)
	if m.err != nil {
		return returned
	}
	return finished
}

func (m *machine) mergeTerms(s *stmt, a, b *ast.Term) *ast.Term {
	x, ok1 := a.Value.(ast.Object)
	y, ok2 := b.Value.(ast.Object)
	if !ok1 || !ok2 {
		m.fail(s.at, errConflict)
		return a
	}
	if !m.build(perElement * (x.Len() + y.Len())) {
		return a
	}
	merged, _ := x.MergeWith(y, func(v, w *ast.Term) (*ast.Term, bool) { return m.mergeTerms(s, v, w), false })
	return ast.NewTerm(merged)
}

// scan runs a block with each key and value of a collection, in OPA's order.
func (m *machine) scan(s *stmt, f []*ast.Term) int {
	t := force(f[s.a])
	if t == nil {
		return finished
	}
	body := s.blocks[0]
	switch v := t.Value.(type) {
	case *ast.Array:
		for i := range v.Len() {
			f[s.t], f[s.u] = ast.InternedTerm(i), v.Elem(i)
			if r := m.run(body, f); r >= returned {
				return r
			}
			if m.steps--; m.steps < 0 && !m.tick() {
				return returned
			}
		}
	case ast.Set:
		for _, e := range v.Slice() {
			f[s.t], f[s.u] = e, e
			if r := m.run(body, f); r >= returned {
				return r
			}
			if m.steps--; m.steps < 0 && !m.tick() {
				return returned
			}
		}
	case ast.Object:
		for _, k := range v.Keys() {
			f[s.t], f[s.u] = k, v.Get(k)
			if r := m.run(body, f); r >= returned {
				return r
			}
			if m.steps--; m.steps < 0 && !m.tick() {
				return returned
			}
		}
	}
	return finished
}

// with runs a block with another input or other data.
func (m *machine) with(s *stmt, f []*ast.Term) int {
	saved, v := f[s.t], m.get(f, s.a)
	if len(s.path) > 0 {
		v = m.upsert(force(saved), s.path, force(v))
	}
	f[s.t] = v
	r := m.run(s.blocks[0], f)
	f[s.t] = saved
	if r >= returned || r == finished {
		return r
	}
	return left
}

// upsert is an object like t but with v at the path; what is no object on the
// way is replaced by one.
func (m *machine) upsert(t *ast.Term, path []*ast.Term, v *ast.Term) *ast.Term {
	if len(path) == 0 {
		return v
	}
	n := 0
	var old ast.Object
	if t != nil {
		if o, ok := t.Value.(ast.Object); ok {
			old, n = o, o.Len()
		}
	}
	m.build(perElement * (n + 1))
	pairs := make([][2]*ast.Term, 0, n+1)
	var below *ast.Term
	if old != nil {
		below = old.Get(path[0])
		old.Foreach(func(k, x *ast.Term) {
			if !equal(k, path[0]) {
				pairs = append(pairs, [2]*ast.Term{k, x})
			}
		})
	}
	if v = m.upsert(below, path[1:], v); v != nil {
		pairs = append(pairs, [2]*ast.Term{path[0], v})
	}
	return ast.ObjectTerm(pairs...)
}
