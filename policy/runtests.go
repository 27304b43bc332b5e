package policy

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
)

// TestReport is how the tests of a policy folder went.
type TestReport struct {
	Passed   int            `json:"passed"`
	Failed   int            `json:"failed"`
	Skipped  int            `json:"skipped"`
	Results  []TestResult   `json:"results"`
	Coverage float64        `json:"coverage"` // per cent of the lines of rules
	Files    []FileCoverage `json:"files"`
}

// TestResult is one test.
type TestResult struct {
	File    string        `json:"file"`
	Line    int           `json:"line"`
	Name    string        `json:"name"`
	Pass    bool          `json:"pass"`
	Skip    bool          `json:"skip,omitempty"`
	Error   string        `json:"error,omitempty"`
	Output  string        `json:"output,omitempty"` // of print()
	Elapsed time.Duration `json:"elapsed"`
	// Rules is what each rule that a failed test asked did, its own lines included.
	Rules []RuleTrace `json:"rules,omitempty"`
}

// FileCoverage is how much of a file the tests ran.
type FileCoverage struct {
	File      string  `json:"file"`
	Coverage  float64 `json:"coverage"`
	Uncovered []int   `json:"uncovered,omitempty"` // first lines of what never ran
}

// Test runs the tests (rules named test_…) of the policy folder at path (empty:
// the defaults) with OPA's test runner and writes a line for each to w, of a test
// that failed also what its rules did. A pattern that is not nil chooses tests by
// package and name. The folder must pass [Check] first. It is ok when no test
// failed and there was one.
func Test(ctx context.Context, path string, defaults fs.FS, pattern *regexp.Regexp, w io.Writer) (report TestReport, ok bool, err error) {
	dir, _, err := openFolder(path, defaults)
	if err != nil {
		return report, false, err
	}
	src, err := readSource(dir)
	if err != nil {
		return report, false, err
	}
	if _, problems := compile(src, nil); len(problems) > 0 {
		return report, false, problems
	}
	if report, err = runTests(ctx, src, pattern); err != nil {
		return report, false, err
	}
	return report, report.Failed == 0 && report.Passed > 0, report.write(w, pattern == nil)
}

func runTests(ctx context.Context, src *source, pattern *regexp.Regexp) (TestReport, error) {
	rules, _ := readContents(src, nil)
	modules := rules.modules
	tests, problems := parse(src.tests, &contents{source: newSource()})
	if len(problems) > 0 {
		return TestReport{}, problems
	}
	all := map[string]*ast.Module{}
	for _, set := range []map[string]*ast.Module{modules, tests} {
		for name, m := range set {
			all[name] = m
		}
	}
	store := inmem.NewFromObjectWithOpts(rules.data, inmem.OptRoundTripOnWrite(false))
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return TestReport{}, err
	}
	defer store.Abort(ctx, txn)
	coverage := cover.New()
	compiler := ast.NewCompiler().WithCapabilities(capabilities()).WithEnablePrintStatements(true)
	runner := tester.NewRunner().SetCompiler(compiler).SetStore(store).SetModules(all).RaiseBuiltinErrors(true).
		CapturePrintOutput(true).SetCoverageQueryTracer(coverage).SetTimeout(10 * time.Second)
	if pattern != nil {
		runner = runner.Filter(pattern.String())
	}
	results, err := runner.RunTests(ctx, txn)
	if err != nil {
		return TestReport{}, problemsOf("", err)
	}
	var report TestReport
	var failed []string
	for r := range results {
		report.add(r)
		if !r.Pass() && !r.Skip {
			failed = append(failed, r.Package+"."+r.Name)
		}
	}
	why := rerun{compiler: compiler, store: store, txn: txn, modules: all}
	for _, name := range failed {
		if err := why.explain(ctx, &report, name); err != nil {
			return TestReport{}, err
		}
	}
	slices.SortFunc(report.Results, func(a, b TestResult) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return a.Line - b.Line
	})
	report.cover(coverage.Report(modules), sortedKeys(modules))
	return report, nil
}

func (t *TestReport) add(r *tester.Result) {
	one := TestResult{Name: strings.TrimPrefix(r.Package, "data.") + "." + r.Name, Pass: r.Pass(), Skip: r.Skip, Output: string(r.Output), Elapsed: r.Duration}
	if r.Location != nil {
		one.File, one.Line = r.Location.File, r.Location.Row
	}
	if r.Error != nil {
		one.Error = r.Error.Error()
	}
	switch {
	case r.Skip:
		t.Skipped++
	case one.Pass:
		t.Passed++
	default:
		t.Failed++
	}
	t.Results = append(t.Results, one)
}

func (t *TestReport) cover(c cover.Report, files []string) {
	t.Coverage = c.Coverage
	for _, name := range files {
		f, ok := c.Files[name]
		if !ok {
			continue // nothing in it can run
		}
		one := FileCoverage{File: name, Coverage: f.Coverage}
		for _, r := range f.NotCovered {
			one.Uncovered = append(one.Uncovered, r.Start.Row)
		}
		slices.Sort(one.Uncovered)
		one.Uncovered = slices.Compact(one.Uncovered) // several conditions may stand in a line
		t.Files = append(t.Files, one)
	}
}

// write shows the report, with or without what the tests reach.
func (t *TestReport) write(w io.Writer, coverage bool) error {
	var b strings.Builder
	for _, r := range t.Results {
		r.write(&b)
	}
	if !coverage {
		fmt.Fprintf(&b, "%d passed, %d failed, %d skipped\n", t.Passed, t.Failed, t.Skipped)
		_, err := io.WriteString(w, b.String())
		return err
	}
	for _, f := range t.Files {
		fmt.Fprintf(&b, "%5.1f%%  %s", f.Coverage, f.File)
		if len(f.Uncovered) > 0 {
			fmt.Fprintf(&b, "  never run: lines %s", strings.Trim(fmt.Sprint(f.Uncovered), "[]"))
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%d passed, %d failed, %d skipped; %.1f%% of the rules covered\n", t.Passed, t.Failed, t.Skipped, t.Coverage)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *TestResult) write(b *strings.Builder) {
	verdict := "PASS"
	switch {
	case r.Skip:
		verdict = "SKIP"
	case !r.Pass:
		verdict = "FAIL"
	}
	fmt.Fprintf(b, "%s  %s  %s:%d\n", verdict, r.Name, r.File, r.Line)
	if r.Error != "" {
		fmt.Fprintf(b, "      %s\n", r.Error)
	}
	for _, rule := range r.Rules {
		fmt.Fprintf(b, "      %s\n", rule)
	}
	if r.Output != "" && !r.Pass {
		fmt.Fprintf(b, "      %s\n", strings.ReplaceAll(strings.TrimSpace(r.Output), "\n", "\n      "))
	}
}
