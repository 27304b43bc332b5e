package policy

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestReportOfTests: each test has its line, one that failed says which lines did
// not hold, and the end is told once.
func TestReportOfTests(t *testing.T) {
	set := folder(sender+`deny contains {"rule": "big", "reason": "b"} if {
	input.stream == "broadcast"
	big
}
big if input.envelope.size > 100
deny contains {"rule": "never", "reason": "b"} if { input.stream == "a"; input.envelope.size == 1 }
`, "p_test.rego", `package behalf.submission.sender_test
import data.behalf.submission.sender
test_big if count(sender.deny) == 1 with input as {"stream": "broadcast", "envelope": {"size": 101}}
test_small if {
	count(sender.deny) == 1 with input as {"stream": "broadcast", "envelope": {"size": 99}}
}
`)
	run := func(pattern *regexp.Regexp) (TestReport, bool, string) {
		var out strings.Builder
		report, ok, err := Test(t.Context(), "", set, pattern, &out)
		if err != nil {
			t.Fatal(err)
		}
		return report, ok, out.String()
	}
	report, ok, out := run(nil)
	if ok || report.Passed != 1 || report.Failed != 1 {
		t.Errorf("ok %v\n%s", ok, out)
	}
	for _, line := range []string{
		"PASS  behalf.submission.sender_test.test_big  p_test.rego:3",
		"FAIL  behalf.submission.sender_test.test_small  p_test.rego:4",
		"      p.rego:2  deny big: line 4 did not hold",
		"      p.rego:6  big: line 6 did not hold",
		"      p_test.rego:4  test_small: line 5 did not hold",
	} {
		if !slices.Contains(strings.Split(out, "\n"), line) {
			t.Errorf("no line %q in\n%s", line, out)
		}
	}
	if got := report.Files[0].Uncovered; !slices.Equal(got, []int{7}) {
		t.Errorf("uncovered lines %v", got)
	}
	if n := strings.Count(out, "1 passed"); n != 1 {
		t.Errorf("%d summaries in\n%s", n, out)
	}

	report, ok, out = run(regexp.MustCompile(`sender_test\.test_b`))
	if !ok || report.Passed != 1 || len(report.Results) != 1 || strings.Contains(out, "covered") {
		t.Errorf("one test alone: ok %v\n%s", ok, out)
	}
	if report, ok, _ = run(regexp.MustCompile("nothing")); ok || len(report.Results) > 0 {
		t.Error("no test at all counts as passed")
	}
}
