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

// spec is the fields that the objects of a result may and must have, besides
// "rule", which all must.
type spec struct{ fields, required []string }

func resultNames() []string {
	return []string{"deny", "defer", "discard", "hold", "limit", "method", "pace", "rewrite", "route", "tag", "warn"}
}

func isResult(name string) bool { return resultSpec(name).fields != nil }

func resultSpec(name string) spec {
	common := []string{"rule", "reason", "detail"}
	with := func(required []string, optional ...string) spec {
		return spec{slices.Concat(common, required, optional), required}
	}
	switch name {
	case "deny", "defer":
		return with([]string{"reason"}, "code", "enhanced")
	case "discard", "warn":
		return with([]string{"reason"})
	case "hold":
		return with([]string{"reason"}, "release_at")
	case "pace":
		return with([]string{"until"})
	case "limit":
		return with([]string{"key", "count", "rate", "per"}, "burst", "over", "max_wait")
	case "route", "method":
		return with([]string{"use"}, "priority")
	case "tag":
		return with([]string{"value"})
	case "rewrite":
		return with([]string{"op"}, "name", "value")
	}
	return spec{}
}

// draft gathers results until they are a decision.
type draft struct {
	d     Decision
	pkg   string
	files map[ruleName]string
	// lead is what decides so far: the first by rule name among the strongest.
	lead    string
	rules   []string
	forever bool // a hold without a time
	routes  []choice[mail.UpstreamID]
	methods []choice[mail.Method]
}

// choice is one route or method result, with its place.
type choice[T any] struct {
	priority float64
	rule     string
	use      []T
}

// add takes one object of a result set.
func (d *draft) add(result string, t *ast.Term) error {
	r := record{result: result, spec: resultSpec(result)}
	if err := r.open(t); err != nil {
		return err
	}
	rule := r.text("rule", true)
	if r.err == nil && rule == "" {
		return fmt.Errorf("%s: the rule has no name", result)
	}
	r.rule = rule
	file := d.files[ruleName{d.pkg, result, rule}]
	if file == "" {
		file = d.pkg
	}
	name := file + ":" + rule
	reason, detail := line(r.text("reason", false)), line(r.text("detail", false))
	switch result {
	case "deny":
		d.refuse(&r, Deny, name, reason, detail)
	case "defer":
		d.refuse(&r, Defer, name, reason, detail)
	case "discard":
		d.act(Discard, name, reason, detail)
	case "hold":
		at := r.time("release_at", false)
		d.forever = d.forever || at.IsZero()
		d.d.ReleaseAt = latest(d.d.ReleaseAt, at)
		d.act(Hold, name, reason, detail)
	case "pace":
		d.d.Until = latest(d.d.Until, r.time("until", true))
		d.act(Pace, name, reason, detail)
	case "warn":
		d.d.Warnings = append(d.d.Warnings, reason)
	case "limit":
		d.d.Limits = append(d.d.Limits, r.limit(name))
	case "route":
		d.routes = append(d.routes, choice[mail.UpstreamID]{r.number("priority", 0), rule, r.upstreams("use")})
	case "method":
		d.methods = append(d.methods, choice[mail.Method]{r.number("priority", 0), rule, r.methods("use")})
	case "tag":
		d.d.Tags = append(d.d.Tags, r.line("value"))
	case "rewrite":
		d.d.Edits = append(d.d.Edits, r.edit())
	}
	if r.err != nil {
		return r.err
	}
	d.rules = append(d.rules, name)
	return nil
}

// act lets an action decide if it beats what decided so far; of equal ones, the
// first by name decides, so that the answer does not depend on the order.
func (d *draft) act(a Action, name, reason, detail string) bool {
	if a < d.d.Action || a == d.d.Action && name >= d.lead {
		return false
	}
	d.d.Action, d.lead, d.d.Reason, d.d.Detail = a, name, reason, detail
	return true
}

func (d *draft) refuse(r *record, a Action, name, reason, detail string) {
	class, code := 5, 550
	if a == Defer {
		class, code = 4, 450
	}
	if r.has("code") {
		code = int(r.whole("code"))
	}
	enhanced := mail.Enhanced{class, 7, 1}
	if r.has("enhanced") {
		var ok bool
		if enhanced, ok = mail.ParseEnhanced(r.text("enhanced", true)); !ok {
			r.fail("enhanced", "is no enhanced status code such as 5.7.1")
		}
	}
	if code/100 != class {
		r.fail("code", fmt.Sprintf("must be %dxx", class))
	}
	if enhanced[0] != class {
		r.fail("enhanced", fmt.Sprintf("must begin with %d", class))
	}
	if reason == "" {
		r.fail("reason", "is empty")
	}
	if d.act(a, name, reason, detail) {
		d.d.Code, d.d.Enhanced = code, enhanced
	}
}

// decision ends the draft.
func (d *draft) decision() Decision {
	if d.forever {
		d.d.ReleaseAt = time.Time{}
	}
	slices.Sort(d.rules)
	d.rules = slices.Compact(d.rules)
	if i := slices.Index(d.rules, d.lead); i > 0 {
		copy(d.rules[1:], d.rules[:i])
		d.rules[0] = d.lead
	}
	d.d.Rules = d.rules
	d.d.Route, d.d.Methods = inOrder(d.routes), inOrder(d.methods)
	return d.d
}

// inOrder is what the choices name, smallest priority first, each once.
func inOrder[T comparable](list []choice[T]) []T {
	slices.SortFunc(list, func(a, b choice[T]) int {
		if a.priority != b.priority {
			if a.priority < b.priority {
				return -1
			}
			return 1
		}
		return strings.Compare(a.rule, b.rule)
	})
	var all []T
	for _, c := range list {
		for _, u := range c.use {
			if !slices.Contains(all, u) {
				all = append(all, u)
			}
		}
	}
	return all
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// maxLine bounds what a policy may tell a client, in bytes.
const maxLine = 400

// line makes text fit for an SMTP reply or a header field: one line without
// control characters, whatever a policy put into it from a message.
func line(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || 0x7f <= r && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxLine {
		s = strings.ToValidUTF8(s[:maxLine], "") + "…"
	}
	return strings.TrimSpace(s)
}

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

func (r *record) fail(field, why string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s %q: %s %s", r.result, r.rule, field, why)
	}
}

func (r *record) get(field string) ast.Value {
	if t := r.obj.Get(ast.StringTerm(field)); t != nil {
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

// edit reads a rewrite. What makes the message itself, says who it is from or
// how it travelled is not a policy's to change.
func (r *record) edit() mail.Edit {
	op := r.text("op", true)
	if op == "subject_prefix" {
		if r.has("name") {
			r.fail("name", "does not go with subject_prefix")
		}
		return mail.Edit{Op: mail.EditPrefix, Name: "Subject", Value: r.line("value")}
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
