package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"behalf/mail"
)

// record reads one result object strictly; the first error is kept.
type record struct {
	result, rule string
	spec         spec
	obj          ast.Object
	err          error
}

func (r *record) open(t *ast.Term) error {
	obj, ok := t.Value.(ast.Object)
	if !ok {
		return fmt.Errorf("%s: a result must be an object, this is %s", r.result, ast.ValueName(t.Value))
	}
	r.obj = obj
	return obj.Iter(func(k, _ *ast.Term) error {
		if s, ok := k.Value.(ast.String); !ok || !slices.Contains(r.spec.fields, string(s)) {
			return fmt.Errorf("%s has no field %s; it has %s", r.result, k, strings.Join(r.spec.fields, ", "))
		}
		return nil
	})
}

// fieldTerms are the names of all fields of results, built once.
var fieldTerms = termsOf(specs)

func termsOf(specs map[string]spec) map[string]*ast.Term {
	terms := map[string]*ast.Term{}
	for _, s := range specs {
		for _, name := range s.fields {
			terms[name] = ast.StringTerm(name)
		}
	}
	return terms
}

func (r *record) fail(field, why string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s %q: %s %s", r.result, r.rule, field, why)
	}
}

func (r *record) get(field string) ast.Value {
	if t := r.obj.Get(fieldTerms[field]); t != nil {
		return t.Value
	}
	return nil
}

func (r *record) has(field string) bool { return r.get(field) != nil }

func (r *record) text(field string, must bool) string {
	switch v := r.get(field).(type) {
	case ast.String:
		return string(v)
	case nil:
		if must || slices.Contains(r.spec.required, field) {
			r.fail(field, "is missing")
		}
	default:
		r.fail(field, "must be a string")
	}
	return ""
}

func (r *record) line(field string) string {
	s := line(r.text(field, true))
	if s == "" {
		r.fail(field, "is empty")
	}
	return s
}

// number reads a number, or gives def when there is none.
func (r *record) number(field string, def float64) float64 {
	v := r.get(field)
	if v == nil {
		return def
	}
	n, ok := v.(ast.Number)
	if !ok {
		r.fail(field, "must be a number")
		return def
	}
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		r.fail(field, "is out of range")
		return def
	}
	return f
}

func (r *record) whole(field string) int64 {
	f := r.number(field, 0)
	if f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		r.fail(field, "must be a whole number")
		return 0
	}
	return int64(f)
}

// time reads nanoseconds since 1970 or RFC 3339 text.
func (r *record) time(field string, must bool) time.Time {
	switch v := r.get(field).(type) {
	case ast.Number:
		n, err := json.Number(v).Int64()
		if err != nil {
			r.fail(field, "must be whole nanoseconds since 1970")
		}
		return time.Unix(0, n).UTC()
	case ast.String:
		t, err := time.Parse(time.RFC3339, string(v))
		if err != nil {
			r.fail(field, "must be an RFC 3339 time or nanoseconds since 1970")
		}
		return t.UTC()
	case nil:
		if must {
			r.fail(field, "is missing")
		}
	default:
		r.fail(field, "must be an RFC 3339 time or nanoseconds since 1970")
	}
	return time.Time{}
}

// duration reads text such as "90s", "24h" or "7d".
func (r *record) duration(field string, must bool) time.Duration {
	s := r.text(field, must)
	if s == "" && r.err == nil && !must {
		return 0
	}
	d, err := parseDuration(s)
	if err != nil {
		r.fail(field, `must be a duration over zero such as "90s", "24h" or "7d"`)
	}
	return d
}

func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n <= 0 || n > 36500 {
			return 0, errors.New("bad number of days")
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err == nil && d <= 0 {
		err = errors.New("not over zero")
	}
	return d, err
}

func (r *record) limit(name string) Limit {
	l := Limit{
		Rule: name, Key: r.keys("key"), Count: Count(r.text("count", true)),
		Rate: r.number("rate", 0), Per: r.duration("per", true), Over: OverDefer,
		MaxWait: r.duration("max_wait", false),
	}
	if r.has("over") {
		l.Over = Over(r.text("over", true))
	}
	switch {
	case l.Count != CountMessages && l.Count != CountRecipients && l.Count != CountBytes:
		r.fail("count", "must be messages, recipients or bytes")
	case l.Over != OverDefer && l.Over != OverPace && l.Over != OverHold:
		r.fail("over", "must be defer, pace or hold")
	case l.Rate <= 0:
		r.fail("rate", "must be over zero; to let nothing through, use deny or defer")
	}
	l.Burst = max(1, int64(min(l.Rate, 1<<53)))
	if r.has("burst") {
		if l.Burst = r.whole("burst"); l.Burst < 1 {
			r.fail("burst", "must be at least 1")
		}
	}
	return l
}

// recipients reads which recipients a hold is about, and tells whether that is
// all of them.
func (r *record) recipients() bool {
	if !r.has("recipients") {
		return true
	}
	switch r.text("recipients", true) {
	case "new":
		return false
	case "all":
	default:
		r.fail("recipients", "must be all or new")
	}
	return true
}

// keys reads a list of strings and numbers.
func (r *record) keys(field string) []string {
	list, ok := r.get(field).(*ast.Array)
	if !ok || list.Len() == 0 {
		r.fail(field, "must be a list of strings or numbers")
		return nil
	}
	keys := make([]string, 0, list.Len())
	list.Foreach(func(t *ast.Term) {
		switch v := t.Value.(type) {
		case ast.String:
			keys = append(keys, string(v))
		case ast.Number:
			keys = append(keys, string(v))
		default:
			r.fail(field, "must be a list of strings or numbers")
		}
	})
	return keys
}

// names reads one string or a list of them.
func (r *record) names(field string) []string {
	switch v := r.get(field).(type) {
	case ast.String:
		return []string{string(v)}
	case *ast.Array:
		names := make([]string, 0, v.Len())
		v.Foreach(func(t *ast.Term) {
			if s, ok := t.Value.(ast.String); ok {
				names = append(names, string(s))
			} else {
				r.fail(field, "must be a name or a list of names")
			}
		})
		if len(names) > 0 {
			return names
		}
	}
	r.fail(field, "must be a name or a list of names")
	return nil
}

func (r *record) upstreams(field string) []mail.UpstreamID {
	var list []mail.UpstreamID
	for _, s := range r.names(field) {
		switch u := mail.UpstreamID(s); {
		case u == mail.UpstreamMX, u == mail.UpstreamPlatform, u == mail.UpstreamMailbox,
			strings.HasPrefix(s, mail.ConnectionPrefix) && len(s) > len(mail.ConnectionPrefix):
			list = append(list, u)
		default:
			r.fail(field, fmt.Sprintf("%q is none of mx, platform, mailbox, connection:<name>", s))
		}
	}
	return list
}

func (r *record) methods(field string) []mail.Method {
	var list []mail.Method
	for _, s := range r.names(field) {
		switch m := mail.Method(s); m {
		case mail.MethodDomain, mail.MethodConnection, mail.MethodAddress, mail.MethodName:
			list = append(list, m)
		default:
			r.fail(field, fmt.Sprintf("%q is none of domain, connection, address, name", s))
		}
	}
	return list
}

// maxPoints bounds the points that one rule may give or take.
const maxPoints = 1_000_000

func (r *record) score(name string) ScorePoints {
	p := ScorePoints{Rule: name, Name: r.line("name"), Points: r.number("points", 0)}
	if math.Abs(p.Points) > maxPoints {
		r.fail("points", fmt.Sprintf("must be between %d and %d", -maxPoints, maxPoints))
	}
	return p
}

// edit reads a rewrite. What makes the message itself, says who it is from or
// how it travelled is not a policy's to change.
func (r *record) edit() mail.Edit {
	op := r.text("op", true)
	if op == "subject_prefix" {
		if r.has("name") {
			r.fail("name", "does not go with subject_prefix")
		}
		return mail.Edit{Op: mail.EditPrefix, Name: "Subject", Value: r.line("value") + " "}
	}
	e := mail.Edit{Name: r.text("name", true)}
	if !isFieldName(e.Name) {
		r.fail("name", "must be the name of a header field")
	}
	if protected(e.Name) {
		r.fail("name", e.Name+" may not be changed by a policy")
	}
	switch op {
	case "add_header":
		e.Op, e.Value = mail.EditAdd, r.line("value")
	case "remove_header":
		e.Op = mail.EditRemove
		if r.has("value") {
			r.fail("value", "does not go with remove_header")
		}
	default:
		r.fail("op", "must be add_header, remove_header or subject_prefix")
	}
	return e
}

func isFieldName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == ':' {
			return false
		}
	}
	return s != "" && len(s) <= 76
}

func protected(name string) bool {
	name = strings.ToLower(name)
	switch name {
	case "from", "sender", "date", "message-id", "received", "return-path", "dkim-signature", "authentication-results", "mime-version":
		return true
	}
	return strings.HasPrefix(name, "content-") || strings.HasPrefix(name, "arc-") || strings.HasPrefix(name, "resent-")
}
