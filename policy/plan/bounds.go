package plan

import (
	"fmt"
	"math/big"
	"net/netip"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Some functions can make much of little, or take very long over it. They are
// looked at before they are called: what would be too much is a [*Limit].

type check = func(m *machine, args []*ast.Term) error

// maxWork bounds the product by which the work of some functions grows.
const maxWork = 32 << 20

// checkOf is the check before a function; nil: it needs none, because what it
// makes and the time it takes are in proportion to what it is given.
func checkOf(name string) check {
	made := func(bytes func(args []*ast.Term) int) check {
		return func(_ *machine, args []*ast.Term) error { return bounded(name, bytes(args), MaxBuilt/2) }
	}
	worked := func(steps func(args []*ast.Term) int) check {
		return func(_ *machine, args []*ast.Term) error { return bounded(name, steps(args), maxWork) }
	}
	switch name {
	case "numbers.range", "numbers.range_step":
		return made(rangeSize)
	case "bits.lsh":
		return made(shiftSize)
	case "net.cidr_expand":
		return made(networkSize)
	case "sprintf":
		return made(formatSize)
	case "concat":
		return made(func(a []*ast.Term) int { return sum(weight(a[1], MaxBuilt), mul(length1(a[1]), chars(a[0]))) })
	case "replace":
		return made(func(a []*ast.Term) int { return mul(chars(a[0])+1, chars(a[2])) })
	case "strings.replace_n":
		return made(func(a []*ast.Term) int { return mul(chars(a[1])+1, longest(a[0])) })
	case "internal.template_string":
		return made(func(a []*ast.Term) int { return weight(a[0], MaxBuilt) })
	case "regex.replace":
		return func(m *machine, a []*ast.Term) error {
			if err := bounded(name, regexWork(a[1], a[0]), maxWork); err != nil {
				return err
			}
			groups := strings.Count(string(text(a[2])), "$")
			return bounded(name, sum(mul(chars(a[0])+1, chars(a[2])), mul(groups, chars(a[0]))), MaxBuilt/2)
		}
	case "split":
		return made(func(a []*ast.Term) int {
			return mul(strings.Count(string(text(a[0])), string(text(a[1])))+1, perElement)
		})
	case "regex.find_all_string_submatch_n":
		return func(_ *machine, a []*ast.Term) error {
			if err := bounded(name, regexWork(a[0], a[1]), maxWork); err != nil {
				return err
			}
			return bounded(name, mul(mul(chars(a[1])+1, strings.Count(string(text(a[0])), "(")+1), perElement), MaxBuilt/2)
		}
	case "regex.match", "regex.find_n", "regex.split", "regex.template_match", "regex.is_valid", "glob.match":
		return worked(func(a []*ast.Term) int { return regexWork(a[0], a[min(1, len(a)-1)]) })
	case "regex.globs_match":
		return worked(func(a []*ast.Term) int { return mul(branches(a[0]), branches(a[1])) })
	case "json.marshal", "yaml.marshal", "urlquery.encode_object":
		return made(func(a []*ast.Term) int { return weight(a[0], MaxBuilt) })
	case "json.marshal_with_options":
		return made(func(a []*ast.Term) int { return mul(weight(a[0], MaxBuilt), weight(a[1], MaxBuilt)/64) })
	case "json.unmarshal", "yaml.unmarshal", "rego.parse_module", "graphql.parse", "graphql.parse_query", "graphql.parse_schema",
		"graphql.parse_and_verify", "graphql.is_valid", "graphql.schema_is_valid":
		return made(func(a []*ast.Term) int { return mul(chars(a[0]), 64) })
	case "array.flatten", "object.union_n", "union", "intersection":
		return made(func(a []*ast.Term) int { return mul(inner(a[0]), perElement) })
	case "product", "sum":
		return made(func(a []*ast.Term) int { return digits(a[0]) })
	case "graph.reachable_paths":
		return worked(func(a []*ast.Term) int { return paths(a[0]) })
	case "net.cidr_contains_matches", "strings.any_prefix_match", "strings.any_suffix_match", "object.subset":
		return worked(func(a []*ast.Term) int { return mul(length1(a[0]), length1(a[1])) })
	case "strings.repeat":
		return made(func(a []*ast.Term) int { return mul(chars(a[0]), whole(a[1])) })
	}
	return nil
}

func bounded(name string, n, most int) error {
	if n > most {
		return &Limit{fmt.Sprintf("has %s do too much at once", name)}
	}
	return nil
}

// tooMuch stands for whatever is beyond all bounds.
const tooMuch = 1 << 40

func mul(a, b int) int {
	if a > 0 && b > tooMuch/a {
		return tooMuch
	}
	return a * b
}

func sum(a, b int) int { return min(a+b, tooMuch) }

func text(t *ast.Term) ast.String {
	s, _ := t.Value.(ast.String)
	return s
}

func chars(t *ast.Term) int { return len(text(t)) }

// length1 is the length of a collection; 1 for what is none.
func length1(t *ast.Term) int {
	switch v := t.Value.(type) {
	case *ast.Array:
		return v.Len()
	case ast.Object:
		return v.Len()
	case ast.Set:
		return v.Len()
	}
	return 1
}

// elements calls do with the elements of a collection, or the values of an
// object, until it reports true.
func elements(t *ast.Term, do func(*ast.Term) bool) {
	switch v := t.Value.(type) {
	case *ast.Array:
		v.Until(do)
	case ast.Set:
		v.Until(do)
	case ast.Object:
		v.Until(func(_, x *ast.Term) bool { return do(x) })
	}
}

// inner is how many elements the elements have.
func inner(t *ast.Term) int {
	n := 0
	elements(t, func(x *ast.Term) bool { n = sum(n, length1(x)); return false })
	return n
}

// longest is the longest text in an object of texts.
func longest(t *ast.Term) int {
	n := 0
	elements(t, func(x *ast.Term) bool { n = max(n, chars(x)); return false })
	return n
}

// digits are the digits of all numbers in a collection, squared: multiplying
// takes so long.
func digits(t *ast.Term) int {
	n := 0
	elements(t, func(x *ast.Term) bool {
		if v, ok := x.Value.(ast.Number); ok && len(v) > 20 {
			n += len(v)
		}
		return false
	})
	return mul(n, n/16)
}

// weight is how long a value is written out, roughly; it stops counting at most.
func weight(t *ast.Term, most int) int {
	n := 0
	add(t, &n, most)
	return n
}

func add(t *ast.Term, n *int, most int) bool {
	switch v := t.Value.(type) {
	case ast.String:
		*n += len(v) + 2
	case ast.Number:
		*n += len(v)
	case ast.Object:
		v.Until(func(k, x *ast.Term) bool { return add(k, n, most) || add(x, n, most) })
	default:
		*n += 6
		elements(t, func(x *ast.Term) bool { return add(x, n, most) })
	}
	return *n > most
}

func whole(t *ast.Term) int {
	v, _ := t.Value.(ast.Number)
	n, ok := v.Int64()
	if !ok || n > tooMuch || n < -tooMuch {
		return tooMuch
	}
	return int(n)
}

func integer(t *ast.Term) *big.Int {
	v, ok := t.Value.(ast.Number)
	if !ok {
		return nil
	}
	n, ok := new(big.Int).SetString(string(v), 10)
	if !ok {
		return nil // not whole, or with an exponent
	}
	return n
}

func rangeSize(a []*ast.Term) int {
	from, to, step := integer(a[0]), integer(a[1]), big.NewInt(1)
	if len(a) > 2 {
		step = integer(a[2])
	}
	if from == nil || to == nil || step == nil {
		for _, t := range a {
			if n, ok := t.Value.(ast.Number); ok && strings.ContainsAny(string(n), "eE") {
				return tooMuch
			}
		}
		return 0 // the function will complain
	}
	if step.Sign() <= 0 {
		return 0
	}
	n := new(big.Int).Sub(to, from)
	n.Quo(n.Abs(n), step)
	if !n.IsInt64() || n.Int64() > tooMuch {
		return tooMuch
	}
	return mul(int(n.Int64()), perElement)
}

func shiftSize(a []*ast.Term) int {
	if n := whole(a[1]); n > 4*maxNumber {
		return tooMuch
	}
	return 0
}

func networkSize(a []*ast.Term) int {
	p, err := netip.ParsePrefix(string(text(a[0])))
	if err != nil {
		return 0
	}
	host := p.Addr().BitLen() - p.Bits()
	if host > 30 {
		return tooMuch
	}
	return mul(1<<host, perElement)
}

// formatSize is the most that sprintf may make.
func formatSize(a []*ast.Term) int {
	format := string(text(a[0]))
	verbs := strings.Count(format, "%")
	width := 0
	for run, i := 0, 0; i < len(format); i++ {
		switch c := format[i]; {
		case '0' <= c && c <= '9':
			run = min(run*10+int(c-'0'), 1_000_000)
			width = max(width, run)
		case c == '*':
			width = 1_000_000
		default:
			run = 0
		}
	}
	if verbs == 0 {
		width = 0
	}
	each := weight(a[1], MaxBuilt) + 8
	if !strings.Contains(format, "[") {
		return sum(sum(len(format), each), mul(verbs, width)) // each argument once
	}
	return sum(len(format), mul(verbs, each+width))
}

// regexWork is how long matching takes, by the lengths of expression and text.
func regexWork(pattern, subject *ast.Term) int {
	p := string(text(pattern))
	n := len(p)
	if strings.Contains(p, "{") {
		n = mul(n, 100)
	}
	return mul(n, chars(subject)+1)
}

// branches is how often a glob may have to try, at worst.
func branches(t *ast.Term) int {
	s := string(text(t))
	n := len(s) + 1
	for range strings.Count(s, "*") + strings.Count(s, "+") {
		n = mul(n, 2)
	}
	return n
}

// paths bounds how many paths without a circle a graph has: each place is left
// in one of its ways.
func paths(t *ast.Term) int {
	n := 1
	elements(t, func(x *ast.Term) bool { n = mul(n, max(1, length1(x))); return n >= tooMuch })
	return n
}
