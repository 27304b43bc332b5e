package plan

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// gather turns the making of an empty object or array and the statements that
// add to it into one statement, where they stand in one block: then the value
// is built in its final size.
func gather(b block) block {
	for i := 0; i < len(b); i++ {
		if b[i].op != opMakeObject && b[i].op != opMakeArray {
			continue
		}
		if parts, ok := parts(b, i); ok {
			b = join(b, i, parts)
			i--
		}
	}
	return b
}

// parts are the places of the statements that add to what statement i makes.
func parts(b block, i int) ([]int, bool) {
	v, adds := b[i].t, opAppend
	if b[i].op == opMakeObject {
		adds = opInsert
	}
	var found []int
	for j := i + 1; j < len(b) && !b[i].strange; j++ {
		s := &b[j]
		if s.op == adds && s.t == v && s.a != v && s.b != v {
			if adds == opInsert && (s.a >= 0 || slices.ContainsFunc(found, func(k int) bool { return b[k].a == s.a })) {
				return nil, false // a key that is computed, or there twice
			}
			found = append(found, j)
		} else if mentions(s, v) {
			break
		}
	}
	if len(found) == 0 {
		return nil, false
	}
	// What is added must still be the same when all of it is added.
	last := found[len(found)-1]
	for _, j := range found {
		value := b[j].a
		if adds == opInsert {
			value = b[j].b
		}
		for k := j + 1; value >= 0 && k < last; k++ {
			if writes(&b[k], value) {
				return nil, false
			}
		}
	}
	return found, true
}

func join(b block, i int, parts []int) block {
	last := parts[len(parts)-1]
	one := stmt{op: opArray, t: b[i].t, at: b[last].at}
	if b[i].op == opMakeObject {
		one.op = opObject
	}
	for _, j := range parts {
		one.args = append(one.args, b[j].a)
		if one.op == opObject {
			one.args = append(one.args, b[j].b)
		}
	}
	out := make(block, 0, len(b))
	for k := range b {
		switch {
		case k == last:
			out = append(out, one)
		case k == i || slices.Contains(parts, k):
		default:
			out = append(out, b[k])
		}
	}
	return out
}

// mentions reports whether a statement reads or writes a variable.
func mentions(s *stmt, v int32) bool {
	return s.a == v || s.b == v || s.t == v || s.u == v || slices.Contains(s.args, v) ||
		slices.ContainsFunc(s.blocks, func(b block) bool {
			return slices.ContainsFunc(b, func(s stmt) bool { return mentions(&s, v) })
		})
}

// writes reports whether a statement may change a variable.
func writes(s *stmt, v int32) bool {
	return s.t == v || s.u == v || slices.ContainsFunc(s.blocks, func(b block) bool {
		return slices.ContainsFunc(b, func(s stmt) bool { return writes(&s, v) })
	})
}

// literal builds an object or array from its parts.
func (m *machine) literal(s *stmt, f []*ast.Term) int {
	if !m.build(perElement * len(s.args)) {
		return returned
	}
	if s.op == opArray {
		terms := make([]*ast.Term, 0, len(s.args))
		for _, o := range s.args {
			if t := force(m.get(f, o)); t != nil {
				terms = append(terms, t)
			}
		}
		f[s.t] = ast.ArrayTerm(terms...)
		return finished
	}
	var buf [12][2]*ast.Term
	pairs := buf[:0]
	for i := 0; i < len(s.args); i += 2 {
		if t := force(m.get(f, s.args[i+1])); t != nil {
			pairs = append(pairs, [2]*ast.Term{m.get(f, s.args[i]), t})
		}
	}
	f[s.t] = ast.ObjectTerm(pairs...)
	return finished
}
