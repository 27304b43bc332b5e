package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"behalf/internal/duration"
	"behalf/mail"
)

// Difference tells how two decisions about the same question differ.
type Difference struct {
	// Changes are what differs, in a fixed order; never empty.
	Changes []Change `json:"changes"`
	// WasRule and WouldRule are the first rule, as file:rule, that makes the
	// difference on each side; empty where no rule does, as for an accept.
	WasRule   string `json:"was_rule,omitempty"`
	WouldRule string `json:"would_rule,omitempty"`
	// Summary is the whole in one line for people, such as
	// "accept -> deny 550 5.7.1 by identity.rego:identity-missing".
	Summary string `json:"summary"`
}

// Change is one thing that differs, each side as text for people.
type Change struct {
	// Field is action, code, enhanced, reason, until, release_at, limits, route,
	// methods, tags, edits or warnings.
	Field string `json:"field"`
	Was   string `json:"was"`
	Would string `json:"would"`
}

// Compare tells how would differs from was, decisions of the stage pkg about
// the same input, or gives nil when the relay would treat them alike. What has
// no effect is not compared: the digest, the detail for the log, which rules
// said the same thing, the order of what is a set, what an accepted message
// would have got when it is refused, and a route before the message stage.
func Compare(pkg string, was, would *Decision) *Difference {
	c := comparison{was: was, would: would}
	c.actions()
	if was.Failure() == nil && would.Failure() == nil {
		c.times()
		c.limits()
		if pkg == PackageMessage {
			differ(&c, "route", was.Route, would.Route, slices.Equal)
			differ(&c, "methods", was.Methods, would.Methods, slices.Equal)
		}
		differ(&c, "tags", was.Tags, would.Tags, sameSet)
		differ(&c, "edits", was.Edits, would.Edits, sameEdits)
		differ(&c, "warnings", was.Warnings, would.Warnings, sameSet)
	}
	if len(c.d.Changes) == 0 {
		return nil
	}
	c.blame()
	c.summarise()
	d := c.d // a copy, so that c need not be on the heap
	return &d
}

// comparison is a difference as it is found.
type comparison struct {
	was, would *Decision
	d          Difference
	led        bool // the deciding rules are what differs first
}

func (c *comparison) add(field, was, would string) {
	c.d.Changes = append(c.d.Changes, Change{field, was, would})
}

// actions compares what is decided and what the client is told of it. A paced
// message has no reason that anybody sees.
func (c *comparison) actions() {
	a, b := c.was, c.would
	if a.Action != b.Action {
		c.add("action", a.Action.String(), b.Action.String())
	} else if a.Action == Accept || a.Action == Pace {
		return
	}
	if a.Code != b.Code {
		c.add("code", codeText(a.Code), codeText(b.Code))
	}
	if a.Enhanced != b.Enhanced {
		c.add("enhanced", enhancedText(a.Enhanced), enhancedText(b.Enhanced))
	}
	if a.Action == b.Action && a.Reason != b.Reason {
		c.add("reason", a.Reason, b.Reason)
	}
	if len(c.d.Changes) > 0 {
		c.led, c.d.WasRule, c.d.WouldRule = true, a.lead(), b.lead()
	}
}

// lead is the rule that decided; an accept has none.
func (d *Decision) lead() string {
	if d.Action == Accept || len(d.Rules) == 0 {
		return ""
	}
	return d.Rules[0]
}

func (c *comparison) times() {
	a, b := c.was, c.would
	if !a.Until.Equal(b.Until) && (a.Action != Discard || b.Action != Discard) {
		c.add("until", timeText(a.Until), timeText(b.Until))
	}
	if a.Action == Hold && b.Action == Hold && !a.ReleaseAt.Equal(b.ReleaseAt) {
		c.add("release_at", timeText(a.ReleaseAt), timeText(b.ReleaseAt))
	}
}

// limits compares the obligations. A limit's rule belongs to its counter, so a
// renamed rule counts anew and is a difference.
func (c *comparison) limits() {
	gone, come := without(c.was.Limits, c.would.Limits), without(c.would.Limits, c.was.Limits)
	for _, l := range gone {
		same := func(o Limit) bool { return o.Rule == l.Rule && o.Count == l.Count && slices.Equal(o.Key, l.Key) }
		then := "none"
		if i := slices.IndexFunc(come, same); i >= 0 {
			then = come[i].text()
			c.rules(l.Rule, come[i].Rule)
			come = slices.Delete(come, i, i+1)
		} else {
			c.rules(l.Rule, "")
		}
		c.add("limits", l.text(), then)
	}
	for _, l := range come {
		c.rules("", l.Rule)
		c.add("limits", "none", l.text())
	}
}

// rules blames the rules of a limit if none is blamed yet.
func (c *comparison) rules(was, would string) {
	if c.d.WasRule == "" && c.d.WouldRule == "" && !c.led {
		c.d.WasRule, c.d.WouldRule, c.led = was, would, true
	}
}

// without is what of a is not in b, each once.
func without(a, b []Limit) []Limit {
	if slices.EqualFunc(a, b, Limit.equal) {
		return nil
	}
	var rest []Limit
	for _, l := range a {
		if !slices.ContainsFunc(b, l.equal) && !slices.ContainsFunc(rest, l.equal) {
			rest = append(rest, l)
		}
	}
	return rest
}

func (l Limit) equal(o Limit) bool {
	return l.Rule == o.Rule && l.Count == o.Count && l.Rate == o.Rate && l.Per == o.Per && max(l.Burst, 1) == max(o.Burst, 1) &&
		l.over() == o.over() && (l.MaxWait == o.MaxWait || l.over() == OverDefer) && slices.Equal(l.Key, o.Key)
}

func (l Limit) over() Over {
	if l.Over == "" {
		return OverDefer
	}
	return l.Over
}

// text is a limit for people.
func (l Limit) text() string {
	s := fmt.Sprintf("%s: %s %s in %s, burst %d, over %s", l.Rule, strconv.FormatFloat(l.Rate, 'g', -1, 64), l.Count, duration.Text(l.Per), max(l.Burst, 1), l.over())
	if l.MaxWait > 0 && l.over() != OverDefer {
		s += " for up to " + duration.Text(l.MaxWait)
	}
	return s + " by " + strings.Join(l.Key, " ")
}

// differ adds a list that differs.
func differ[T any](c *comparison, field string, was, would []T, same func(a, b []T) bool) {
	if !same(was, would) {
		c.add(field, listText(was), listText(would))
	}
}

func listText[T any](all []T) string {
	if len(all) == 0 {
		return "none"
	}
	parts := make([]string, len(all))
	for i, x := range all {
		parts[i] = strings.TrimSpace(fmt.Sprint(x))
		if e, ok := any(x).(mail.Edit); ok {
			parts[i] = editText(e)
		}
	}
	return strings.Join(parts, ", ")
}

func editText(e mail.Edit) string {
	return strings.TrimSpace(editName(e.Op) + " " + e.Name + " " + e.Value)
}

func editName(op mail.EditOp) string {
	switch op {
	case mail.EditRemove:
		return "remove"
	case mail.EditAdd:
		return "add"
	case mail.EditPrefix:
		return "prefix"
	}
	return "set"
}

// sameSet compares lists whose order and repetitions do not matter.
func sameSet[T comparable](a, b []T) bool {
	in := func(a, b []T) bool {
		return !slices.ContainsFunc(a, func(x T) bool { return !slices.Contains(b, x) })
	}
	return slices.Equal(a, b) || in(a, b) && in(b, a)
}

// sameEdits compares edits. The order matters among those of one field only.
func sameEdits(a, b []mail.Edit) bool {
	if slices.Equal(a, b) {
		return true
	}
	byField := func(list []mail.Edit) []mail.Edit {
		var once []mail.Edit
		for _, e := range list {
			e.Name = strings.ToLower(e.Name)
			if !slices.Contains(once, e) {
				once = append(once, e)
			}
		}
		slices.SortStableFunc(once, func(a, b mail.Edit) int { return strings.Compare(a.Name, b.Name) })
		return once
	}
	return slices.Equal(byField(a), byField(b))
}

// blame names the first rule that only one side has, where neither the action
// nor a limit told which rules differ.
func (c *comparison) blame() {
	if c.led {
		return
	}
	first := func(a, b []string) string {
		if i := slices.IndexFunc(a, func(r string) bool { return !slices.Contains(b, r) }); i >= 0 {
			return a[i]
		}
		return ""
	}
	c.d.WasRule, c.d.WouldRule = first(c.was.Rules, c.would.Rules), first(c.would.Rules, c.was.Rules)
}

// summarise writes the line for people: the actions if they differ, then what
// else does.
func (c *comparison) summarise() {
	var parts []string
	a, b := c.was.outcome(), c.would.outcome()
	if a != b {
		parts = append(parts, a+" -> "+b)
	}
	for _, one := range c.d.Changes {
		switch one.Field {
		case "action", "code", "enhanced":
		case "limits":
			parts = append(parts, "limit "+one.Was+" -> "+one.Would)
		default:
			parts = append(parts, one.Field+" "+one.Was+" -> "+one.Would)
		}
	}
	if a == b && c.led && c.was.Action != Accept && c.d.Changes[0].Field == "reason" {
		parts[0] = a + ": " + parts[0]
	}
	c.d.Summary = strings.Join(parts, "; ")
}

// outcome is the action for people: "deny 550 5.7.1 by file:rule".
func (d *Decision) outcome() string {
	s := d.Action.String()
	if d.Failure() != nil {
		s += fmt.Sprintf(" %d %s", d.Code, d.Enhanced)
	}
	if by := d.lead(); by != "" {
		s += " by " + by
	}
	return s
}

func codeText(n int) string {
	if n == 0 {
		return "none"
	}
	return strconv.Itoa(n)
}

func enhancedText(e mail.Enhanced) string {
	if e == (mail.Enhanced{}) {
		return "none"
	}
	return e.String()
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return "none"
	}
	return t.UTC().Format(time.RFC3339)
}
