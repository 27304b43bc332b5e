package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPolicyCommands: what check and test say at a terminal, and when they fail.
func TestPolicyCommands(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) (out, failure string) {
		var b bytes.Buffer
		c := rootCommand()
		c.SetArgs(append([]string{"policy"}, append(args, "--path", dir)...))
		c.SetOut(&b)
		if err := c.ExecuteContext(t.Context()); err != nil {
			failure = err.Error()
		}
		return b.String(), failure
	}
	file("p.rego", "package behalf.submission.sender\ndeny contains {\"rule\": \"r\", \"reason\": \"x\"} if input.strem == \"a\"\n")
	if out, failure := run("check"); failure != "1 problem" || strings.Count(out, "p.rego:2") != 1 {
		t.Errorf("check: %s, %s", failure, out)
	}
	file("p.rego", "package behalf.submission.sender\ndeny contains {\"rule\": \"r\", \"reason\": \"x\"} if input.stream == \"a\"\n")
	file("q.rego", "package behalf.submission.sender\ndeny contains {\"rule\": \"q\", \"reason\": \"x\"} if input.stream == \"never\"\n")
	file("p_test.rego", "package p_test\nimport data.behalf.submission.sender\ntest_a if count(sender.deny) == 1 with input.stream as \"a\"\n")
	for _, test := range []struct {
		args    []string
		failure string
	}{
		{nil, ""},
		{[]string{"--coverage", "50"}, ""},
		{[]string{"--coverage", "100"}, "the tests reach 66.7% of the rules, 100% were asked for"},
		{[]string{"--run", "test_a"}, ""},
		{[]string{"--run", "test_b"}, "there is no test to run"},
		{[]string{"--run", "("}, "--run: error parsing regexp"},
		{[]string{"--run", "test_a", "--coverage", "50"}, "--coverage counts what all tests reach"},
	} {
		out, failure := run(append([]string{"test"}, test.args...)...)
		if failure != test.failure && (test.failure == "" || !strings.HasPrefix(failure, test.failure)) {
			t.Errorf("test %v: %q, want %q\n%s", test.args, failure, test.failure, out)
		}
		if n := strings.Count(out, "1 passed"); test.failure == "" && n != 1 {
			t.Errorf("test %v: %d summaries\n%s", test.args, n, out)
		}
	}
}
