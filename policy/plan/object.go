package plan

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// Source is an object of the input whose fields are only made when a rule reads
// them.
type Source interface {
	// Field makes the field of that name; nil: there is none.
	Field(name string) *ast.Term
	// Whole makes the whole object. Its fields equal what Field makes.
	Whole() *ast.Term
}

// Lazy is the value of a term that stands for a Source. A program looks into it
// field by field and has the whole made for everything else. One Lazy serves
// one evaluation at a time.
type Lazy struct {
	term  ast.Term
	src   Source
	whole *ast.Term
	n     int
	known [4]field
	more  []field
}

type field struct {
	name string
	term *ast.Term
}

// Of makes l stand for the source and gives its term.
func (l *Lazy) Of(src Source) *ast.Term {
	l.src = src
	l.term.Value = l
	return &l.term
}

// Source is what l stands for.
func (l *Lazy) Source() Source { return l.src }

// Read calls visit with each field that was read, nil where there is none. It
// reports whether the whole was made besides.
func (l *Lazy) Read(visit func(name string, t *ast.Term)) (whole bool) {
	for _, f := range l.known[:l.n] {
		visit(f.name, f.term)
	}
	for _, f := range l.more {
		visit(f.name, f.term)
	}
	return l.whole != nil
}

// get gives a field, nil when there is none.
func (l *Lazy) get(key *ast.Term) *ast.Term {
	if l.whole != nil {
		return l.whole.Value.(ast.Object).Get(key)
	}
	name, ok := key.Value.(ast.String)
	if !ok {
		return nil
	}
	for i := range l.n {
		if l.known[i].name == string(name) {
			return l.known[i].term
		}
	}
	for i := range l.more {
		if l.more[i].name == string(name) {
			return l.more[i].term
		}
	}
	t := l.src.Field(string(name))
	if l.n < len(l.known) {
		l.known[l.n] = field{string(name), t}
		l.n++
	} else {
		l.more = append(l.more, field{string(name), t})
	}
	return t
}

func (l *Lazy) all() *ast.Term {
	if l.whole == nil {
		l.whole = l.src.Whole()
	}
	return l.whole
}

// force gives a term that OPA knows in place of a Lazy.
func force(t *ast.Term) *ast.Term {
	if t != nil {
		if l, ok := t.Value.(*Lazy); ok {
			return l.all()
		}
	}
	return t
}

// Compare, Find, Hash, IsGround and String are those of the whole object.
func (l *Lazy) Compare(other ast.Value) int { return l.all().Value.Compare(other) }

// Find is that of the whole object.
func (l *Lazy) Find(path ast.Ref) (ast.Value, error) { return l.all().Value.Find(path) }

// Hash is that of the whole object.
func (l *Lazy) Hash() int { return l.all().Value.Hash() }

// IsGround is true: an input has no variables.
func (l *Lazy) IsGround() bool { return true }

// String is that of the whole object.
func (l *Lazy) String() string { return l.all().Value.String() }

// StringLength is that of the whole object.
func (l *Lazy) StringLength() int { return l.all().Value.(ast.Object).StringLength() }
