package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Explanation is a decision with which rule said what.
type Explanation struct {
	Package  string      `json:"package"`
	Decision Decision    `json:"decision"`
	Rules    []RuleTrace `json:"rules"` // every rule of the stage and of what it uses, by file and line
}

// RuleTrace is what one rule did.
type RuleTrace struct {
	File  string `json:"file"`
	Line  int    `json:"line"`
	Name  string `json:"name"`
	Asked bool   `json:"asked"` // it was looked at; else nothing needed it
	Fired bool   `json:"fired"` // its conditions held
	// Failed is the first line at which its conditions did not hold; 0 when
	// unknown.
	Failed int `json:"failed,omitempty"`
}

// readInput reads the input of a stage from JSON, as [EvalFile] says.
func readInput(pkg string, document []byte) (string, input, error) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(document, &top); err != nil {
		return "", nil, fmt.Errorf("the input must be a JSON object: %w", err)
	}
	if inner, ok := top["input"]; ok {
		var named string
		if err := json.Unmarshal(top["package"], &named); top["package"] != nil && err != nil {
			return "", nil, fmt.Errorf("package: %w", err)
		}
		if pkg == "" {
			pkg = named
		}
		return readInput(pkg, inner)
	}
	if pkg == "" {
		pkg = stageFor(top)
	}
	i := stageOf(pkg)
	if i < 0 {
		return "", nil, fmt.Errorf("no stage is called %q; the stages are %s", pkg, strings.Join(Packages(), ", "))
	}
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	var whole any
	if err := d.Decode(&whole); err != nil {
		return "", nil, fmt.Errorf("input of %s: %w", pkg, err)
	}
	if err := checkInput(whole, typeSchema(i), ""); err != nil {
		return "", nil, fmt.Errorf("input of %s: %w", pkg, err)
	}
	in := stages()[i].input()
	if err := json.Unmarshal(document, in); err != nil {
		return "", nil, fmt.Errorf("input of %s: %w", pkg, err)
	}
	return pkg, in, nil
}

// stageFor tells the stage from the fields that its input has.
func stageFor(top map[string]json.RawMessage) string {
	arrives := top["auth"] != nil || top["dnsbl"] != nil || top["spam"] != nil
	switch message, recipient := top["message"] != nil, top["recipient"] != nil; {
	case arrives && message:
		return PackageInboundMessage
	case arrives && recipient:
		return PackageInboundRecipient
	case arrives:
		return PackageInboundConnect
	case message:
		return PackageMessage
	case recipient:
		return PackageRecipient
	}
	return PackageSender
}

// EvalFile asks the policies at path (empty: the defaults) about an input in
// JSON, read strictly. Without pkg the stage is told from what is there: message,
// recipient, or neither, and auth, dnsbl or spam where mail arrives; the document
// may also be {"package": …, "input": …}. The answer is explained rule by rule.
func EvalFile(ctx context.Context, path string, defaults fs.FS, pkg string, r io.Reader) (*Explanation, error) {
	document, err := io.ReadAll(io.LimitReader(r, maxData+1))
	if err != nil {
		return nil, fmt.Errorf("reading the input: %w", err)
	}
	if len(document) > maxData {
		return nil, errors.New("the input is too big")
	}
	pkg, in, err := readInput(pkg, document)
	if err != nil {
		return nil, err
	}
	dir, _, err := openFolder(path, defaults)
	if err != nil {
		return nil, err
	}
	src, err := readSource(dir)
	if err != nil {
		return nil, err
	}
	s, problems := compile(src, nil)
	if len(problems) > 0 {
		return nil, problems
	}
	return s.explain(ctx, pkg, in)
}

// Explain asks the set in force, as [EvalFile] asks files.
func (e *Engine) Explain(ctx context.Context, pkg string, document []byte) (*Explanation, error) {
	pkg, in, err := readInput(pkg, document)
	if err != nil {
		return nil, err
	}
	return e.set.Load().explain(ctx, pkg, in)
}

func (s *set) explain(ctx context.Context, pkg string, in input) (*Explanation, error) {
	p := s.stages[stageOf(pkg)]
	if p == nil {
		return &Explanation{Package: pkg, Decision: Decision{Digest: s.digest}}, nil
	}
	in.stamp()
	t := &ruleTracer{rules: map[place]*RuleTrace{}}
	for _, file := range sortedKeys(p.compiler.Modules) {
		for _, r := range s.modules[file].Rules {
			t.rule(r)
		}
	}
	// The decision is that of the relay, which may pass over a rule with a fault
	// in it when another of its conditions excludes it; the trace looks at all.
	d, err := p.evaluate(ctx, s, explainWithin, in.term(p.fields), nil)
	if err != nil {
		return nil, err
	}
	if _, err := p.evaluate(ctx, s, explainWithin, in.term(p.fields), t); err != nil && ctx.Err() != nil {
		return nil, err
	}
	return &Explanation{Package: pkg, Decision: d, Rules: t.list()}, nil
}

// explainWithin bounds each evaluation of an explanation, which no client waits
// for.
const explainWithin = 10 * time.Second

type place struct {
	file string
	line int
}

// ruleTracer notes which rules were entered and which came to their end.
type ruleTracer struct {
	rules map[place]*RuleTrace
}

func (t *ruleTracer) rule(r *ast.Rule) *RuleTrace {
	at := place{r.Location.File, r.Location.Row}
	found := t.rules[at]
	if found == nil {
		found = &RuleTrace{File: at.file, Line: at.line, Name: describe(r)}
		t.rules[at] = found
	}
	return found
}

// describe names a rule: a result by its set and its rule, as "deny size".
func describe(r *ast.Rule) string {
	name := headName(r)
	if object, _ := literalOf(r); object != nil && object["rule"] != nil {
		if s, ok := object["rule"].Value.(ast.String); ok {
			return name + " " + string(s)
		}
	}
	return name
}

func (t *ruleTracer) Enabled() bool               { return true }
func (t *ruleTracer) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

func (t *ruleTracer) TraceEvent(e topdown.Event) {
	switch node := e.Node.(type) {
	case *ast.Rule:
		at := place{node.Location.File, node.Location.Row}
		found := t.rules[at]
		if found == nil {
			return // made by the compiler
		}
		found.Asked = true
		if e.Op == topdown.ExitOp {
			found.Fired = true
		}
	case *ast.Expr:
		if e.Op == topdown.FailOp && node.Location != nil {
			t.fail(node.Location.File, node.Location.Row)
		}
	}
}

// fail notes a condition that did not hold with the rule that it stands in: the
// last one of the file that begins at or above it.
func (t *ruleTracer) fail(file string, line int) {
	var in *RuleTrace
	for at, r := range t.rules {
		if at.file == file && at.line <= line && (in == nil || at.line > in.Line) {
			in = r
		}
	}
	if in != nil && in.Failed == 0 {
		in.Failed = line
	}
}

func (t *ruleTracer) list() []RuleTrace {
	all := make([]RuleTrace, 0, len(t.rules))
	for _, r := range t.rules {
		if r.Fired {
			r.Failed = 0
		}
		all = append(all, *r)
	}
	slices.SortFunc(all, func(a, b RuleTrace) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return a.Line - b.Line
	})
	return all
}
