package policy

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"behalf/policy/plan"
)

// lazily marks that objects may be made field by field.
const lazily fields = 1 << 31

// members are the fields of an object that Rego sees of a T.
type members[T any] []member[T]

// member is one field. It is there when any of its bits is asked for (none:
// always) and when make gives something.
type member[T any] struct {
	key  *ast.Term
	bits fields
	make func(v *T, f fields) *ast.Term
	// seen is what a rule sees that reads the field, or the field of it that path
	// leads to.
	seen func(v *T, path []uint8) sight
}

func (m *member[T]) term(v *T, f fields) *ast.Term {
	if m.bits != 0 && m.bits&f == 0 {
		return nil
	}
	return m.make(v, f)
}

// The kinds of members.

func textField[T any, S ~string](key *ast.Term, bits fields, get func(*T) S) member[T] {
	return member[T]{key, bits, func(v *T, _ fields) *ast.Term { return text(get(v)) },
		func(v *T, _ []uint8) sight { return sight{text: string(get(v))} }}
}

func numberField[T any, N ~int | ~int64](key *ast.Term, bits fields, get func(*T) N) member[T] {
	return member[T]{key, bits, func(v *T, _ fields) *ast.Term { return number(int64(get(v))) },
		func(v *T, _ []uint8) sight { return sight{number: int64(get(v))} }}
}

func flagField[T any](key *ast.Term, bits fields, get func(*T) bool) member[T] {
	return member[T]{key, bits, func(v *T, _ fields) *ast.Term { return boolean(get(v)) },
		func(v *T, _ []uint8) sight { return sight{flag: get(v)} }}
}

// listField is a list; only one that is empty is known again.
func listField[T, E any](key *ast.Term, bits fields, get func(*T) []E, term func([]E) *ast.Term) member[T] {
	return member[T]{key, bits, func(v *T, _ fields) *ast.Term { return term(get(v)) },
		func(v *T, _ []uint8) sight { return sight{strange: len(get(v)) > 0} }}
}

// partField is an object with fields of its own.
func partField[T, P any](key *ast.Term, bits fields, get func(*T) *P, of members[P]) member[T] {
	return member[T]{key, bits, func(v *T, f fields) *ast.Term { return of.of(get(v), f) },
		func(v *T, path []uint8) sight {
			if len(path) == 0 {
				return sight{} // that it is there
			}
			return of[path[0]].seen(get(v), path[1:])
		}}
}

// wholeField is an object that is made once and for all.
func wholeField[T any](key *ast.Term, bits fields, term func(*T) *ast.Term, seen func(*T) sight) member[T] {
	return member[T]{key, bits, func(v *T, _ fields) *ast.Term { return term(v) }, func(v *T, _ []uint8) sight { return seen(v) }}
}

// of is the object, made now or field by field.
func (m members[T]) of(v *T, f fields) *ast.Term {
	o := object[T]{v: v, f: f &^ lazily, members: m}
	if f&lazily == 0 {
		return o.Whole()
	}
	return o.lazy()
}

// object is a T whose fields are made when they are asked for.
type object[T any] struct {
	plan.Lazy
	v       *T
	f       fields
	members members[T]
}

func (o object[T]) lazy() *ast.Term { return o.Of(&o) }

// Field makes the field of that name.
func (o *object[T]) Field(name string) *ast.Term {
	for i := range o.members {
		if m := &o.members[i]; string(m.key.Value.(ast.String)) == name {
			return m.term(o.v, o.f|lazily)
		}
	}
	return nil
}

// Whole makes the object.
func (o *object[T]) Whole() *ast.Term {
	var buf [13]pair
	pairs := buf[:0]
	for i := range o.members {
		if t := o.members[i].term(o.v, o.f); t != nil {
			pairs = append(pairs, pair{o.members[i].key, t})
		}
	}
	return ast.ObjectTerm(pairs...)
}

// inherited are the members of a type that T embeds.
func inherited[T, E any](all members[E], embedded func(*T) *E) members[T] {
	mine := make(members[T], len(all))
	for i, m := range all {
		mine[i] = member[T]{m.key, m.bits, func(v *T, f fields) *ast.Term { return m.make(embedded(v), f) },
			func(v *T, path []uint8) sight { return m.seen(embedded(v), path) }}
	}
	return mine
}

func listOf[T any](term func(*T) *ast.Term) func([]T) *ast.Term {
	return func(all []T) *ast.Term {
		terms := make([]*ast.Term, len(all))
		for i := range all {
			terms[i] = term(&all[i])
		}
		return ast.ArrayTerm(terms...)
	}
}

func orEmpty[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	return p
}
