package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"behalf/mail"
)

// spec is the fields that the objects of a result may and must have, besides
// "rule", which all must.
type spec struct{ fields, required []string }

// resultNames are the results that a stage's package may give. What arrives is
// scored, and goes no way that could be chosen or paced. The way of a submission
// and how it is sent are chosen once, when the message is there.
func resultNames(pkg string) []string {
	switch {
	case inbound(pkg):
		return []string{"deny", "defer", "discard", "hold", "limit", "rewrite", "score", "tag", "warn"}
	case pkg != PackageMessage:
		return []string{"deny", "defer", "discard", "hold", "limit", "pace", "rewrite", "tag", "warn"}
	}
	return []string{"deny", "defer", "discard", "hold", "limit", "method", "pace", "rewrite", "route", "tag", "warn"}
}

func isResult(pkg, name string) bool { return slices.Contains(resultNames(pkg), name) }

// specs are those of all results, made once.
var specs = func() map[string]spec {
	all := map[string]spec{}
	for _, name := range slices.Concat(resultNames(PackageMessage), resultNames(PackageInboundMessage)) {
		all[name] = specOf(name)
	}
	return all
}()

func resultSpec(name string) spec { return specs[name] }

func specOf(name string) spec {
	with := func(required []string, optional ...string) spec {
		fields := slices.Concat([]string{"rule"}, required, optional)
		for _, common := range []string{"reason", "detail"} {
			if !slices.Contains(fields, common) {
				fields = append(fields, common)
			}
		}
		return spec{fields, required}
	}
	switch name {
	case "deny", "defer":
		return with([]string{"reason"}, "code", "enhanced")
	case "discard", "warn":
		return with([]string{"reason"})
	case "hold":
		return with([]string{"reason"}, "release_at", "recipients")
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
	case "score":
		return with([]string{"name", "points"})
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
	whole   bool // a hold of all recipients
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
		d.whole = d.whole || r.recipients()
		d.d.ReleaseAt = latest(d.d.ReleaseAt, at)
		d.act(Hold, name, reason, detail)
	case "pace":
		if until := r.time("until", true); until.After(d.d.Until) || until.Equal(d.d.Until) && name < d.d.UntilBy {
			d.d.Until, d.d.UntilBy = until, name
		}
		d.act(Pace, name, reason, detail)
	case "warn":
		d.d.Warnings = append(d.d.Warnings, reason)
	case "limit":
		if len(d.d.Limits) == maxLimits {
			return fmt.Errorf("%s: more than %d limits in one decision; use fewer keys, such as one of the message instead of one for each host in it", name, maxLimits)
		}
		d.d.Limits = append(d.d.Limits, r.limit(name))
	case "route":
		d.routes = append(d.routes, choice[mail.UpstreamID]{r.number("priority", 0), rule, r.upstreams("use")})
	case "method":
		d.methods = append(d.methods, choice[mail.Method]{r.number("priority", 0), rule, r.methods("use")})
	case "tag":
		d.d.Tags = append(d.d.Tags, r.line("value"))
	case "rewrite":
		d.d.Edits = append(d.d.Edits, r.edit())
	case "score":
		d.d.Points = append(d.d.Points, r.score(name))
	}
	if r.err != nil {
		return r.err
	}
	d.rules = append(d.rules, name)
	return nil
}

// maxLimits bounds the limits of one decision: they are taken all at once, under
// locks.
const maxLimits = 64

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
	d.d.OnlyNew = d.d.Action == Hold && !d.whole
	slices.Sort(d.rules)
	d.rules = slices.Compact(d.rules)
	if i := slices.Index(d.rules, d.lead); i > 0 {
		copy(d.rules[1:], d.rules[:i])
		d.rules[0] = d.lead
	}
	d.d.Rules = d.rules
	d.d.Score = total(d.d.Points)
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

// total adds points up in an order of their own, so that the same points make the
// same sum.
func total(points []ScorePoints) (sum float64) {
	slices.SortFunc(points, func(a, b ScorePoints) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Rule, b.Rule), cmp.Compare(a.Points, b.Points))
	})
	for _, p := range points {
		sum += p.Points
	}
	return sum
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
