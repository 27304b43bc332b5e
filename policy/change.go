package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// What is what became of one thing of a set since what was in force before.
type What string

// The values of What.
const (
	Added   What = "added"
	Removed What = "removed"
	Changed What = "changed"
)

// FileChange is a file that differs.
type FileChange struct {
	File   string `json:"file"`
	Change What   `json:"change"`
}

// RuleChange is a rule whose text differs. Rules of a result that have the same
// name count as one; Rule is empty for helpers and for results that compute their
// names.
type RuleChange struct {
	Package string `json:"package"`
	Result  string `json:"result"` // or the helper's name
	Rule    string `json:"rule,omitempty"`
	File    string `json:"file"`
	Change  What   `json:"change"`
}

// DataChange is a value of the data files that differs.
type DataChange struct {
	Path   string `json:"path"` // such as plans.pro.daily
	Change What   `json:"change"`
}

// Changes are the differences between two sets. Each list is bounded; More
// counts what was left out.
type Changes struct {
	Files []FileChange `json:"files,omitempty"`
	Rules []RuleChange `json:"rules,omitempty"`
	Data  []DataChange `json:"data,omitempty"`
	More  int          `json:"more,omitempty"`
}

// maxChanges bounds each list of a [Changes].
const maxChanges = 100

// String is one line for people and logs.
func (c Changes) String() string {
	var parts []string
	for _, f := range c.Files {
		parts = append(parts, "file "+f.File+" "+string(f.Change))
	}
	for _, r := range c.Rules {
		parts = append(parts, strings.TrimSpace(strings.Join([]string{strings.TrimPrefix(r.Package, "behalf."), r.Result, r.Rule}, " "))+" "+string(r.Change))
	}
	for _, d := range c.Data {
		parts = append(parts, "data."+d.Path+" "+string(d.Change))
	}
	const shown = 20
	if more := len(parts) - shown + c.More; len(parts) > shown || more > 0 && c.More > 0 {
		parts = append(parts[:min(shown, len(parts))], fmt.Sprintf("and %d more", len(c.Files)+len(c.Rules)+len(c.Data)+c.More-min(shown, len(parts))))
	}
	return strings.Join(parts, "; ")
}

// compare tells how now differs from was. A file that does not parse has no rules.
func compare(was, now *contents) Changes {
	var c Changes
	files(was.source.rego, now.source.rego, &c)
	files(was.source.data, now.source.data, &c)
	rules(textsOf(was), textsOf(now), &c)
	if !was.sameData(now) {
		values("", was.data, now.data, &c)
	}
	return c
}

func files(was, now map[string][]byte, c *Changes) {
	eachChange(was, now, slices.Equal, func(name string, what What) {
		if len(c.Files) == maxChanges {
			c.More++
			return
		}
		c.Files = append(c.Files, FileChange{name, what})
	})
}

// ruleText is where a rule stands, and what it says.
type ruleText struct{ file, text string }

// textsOf maps each rule, as "package\x00result\x00rule", to its text.
func textsOf(c *contents) map[string]ruleText {
	texts := map[string]ruleText{}
	for _, file := range sortedKeys(c.modules) {
		m := c.modules[file]
		for _, r := range m.Rules {
			key := strings.Join([]string{packagePath(m), headName(r), nameOf(r)}, "\x00")
			t := texts[key]
			texts[key] = ruleText{file, t.text + string(r.Location.Text) + "\n"}
		}
	}
	return texts
}

// nameOf is the name that a result rule writes out, or empty.
func nameOf(r *ast.Rule) string {
	object, _ := literalOf(r)
	if object == nil || object["rule"] == nil {
		return ""
	}
	name, _ := object["rule"].Value.(ast.String)
	return string(name)
}

func rules(was, now map[string]ruleText, c *Changes) {
	same := func(a, b ruleText) bool { return a.text == b.text }
	eachChange(was, now, same, func(key string, what What) {
		if len(c.Rules) == maxChanges {
			c.More++
			return
		}
		part, file := strings.Split(key, "\x00"), now[key].file
		if what == Removed {
			file = was[key].file
		}
		c.Rules = append(c.Rules, RuleChange{part[0], part[1], part[2], file, what})
	})
}

// values compares data down to what is no map.
func values(path string, was, now map[string]any, c *Changes) {
	same := func(a, b any) bool { return reflect.DeepEqual(a, b) }
	eachChange(was, now, same, func(key string, what What) {
		at := strings.TrimPrefix(path+"."+key, ".")
		before, wasMap := was[key].(map[string]any)
		after, isMap := now[key].(map[string]any)
		switch {
		case wasMap && isMap:
			values(at, before, after, c)
		case len(c.Data) == maxChanges:
			c.More++
		default:
			c.Data = append(c.Data, DataChange{at, what})
		}
	})
}

// eachChange visits the keys whose values differ, in order.
func eachChange[V any](was, now map[string]V, same func(a, b V) bool, visit func(key string, what What)) {
	keys := append(sortedKeys(was), sortedKeys(now)...)
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		before, had := was[key]
		after, has := now[key]
		switch {
		case !had:
			visit(key, Added)
		case !has:
			visit(key, Removed)
		case !same(before, after):
			visit(key, Changed)
		}
	}
}
