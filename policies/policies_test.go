package policies

import (
	"bytes"
	"strings"
	"testing"

	"behalf/policy"
)

// TestDefaults runs the tests of the default policies, which must reach every
// line of every rule.
func TestDefaults(t *testing.T) {
	for _, p := range policy.Check("", FS) {
		t.Error(p)
	}
	var out bytes.Buffer
	report, ok, err := policy.Test(t.Context(), "", FS, &out)
	if err != nil {
		t.Fatal(err)
	}
	if !ok || report.Coverage < 100 {
		t.Errorf("ok %v, coverage %.1f%%\n%s", ok, report.Coverage, out.String())
	}
}

// TestEachRuleBothWays asks that each result rule has a test in which it fires
// and one in which it does not: every file has at least two tests.
func TestEachRuleBothWays(t *testing.T) {
	entries, err := FS.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name, isPolicy := strings.CutSuffix(e.Name(), ".rego")
		if !isPolicy || strings.HasSuffix(name, "_test") {
			continue
		}
		b, err := FS.ReadFile(name + "_test.rego")
		if err != nil {
			t.Errorf("%s.rego has no test: %v", name, err)
			continue
		}
		if n := strings.Count(string(b), "\ntest_"); n < 2 {
			t.Errorf("%s_test.rego has %d tests", name, n)
		}
	}
}
