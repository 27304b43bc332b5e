package policy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"behalf/mail"
)

func reader(b []byte) io.Reader { return bytes.NewReader(b) }

func open(t testing.TB, fs fstest.MapFS, o Options) *Engine {
	t.Helper()
	o.Defaults = fs
	e, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// ask asks the message stage of a set with these rules.
func ask(t testing.TB, rules string) (Decision, error) {
	t.Helper()
	e := open(t, folder("package "+PackageMessage+"\n"+rules), Options{})
	return e.Message(t.Context(), &MessageInput{SenderInput: SenderInput{Stream: "transactional", Envelope: Envelope{From: "a@b.example", Size: 7}}})
}

// TestPrecedence: deny beats defer beats discard beats hold beats pace beats accept.
func TestPrecedence(t *testing.T) {
	rules := []string{
		`warn contains {"rule": "w", "reason": "careful"}`,
		`pace contains {"rule": "p", "until": "2026-11-05T12:00:00Z"}`,
		`hold contains {"rule": "h", "reason": "why held"}`,
		`discard contains {"rule": "d", "reason": "why dropped"}`,
		`defer contains {"rule": "l", "reason": "later", "code": 451, "enhanced": "4.7.0"}`,
		`deny contains {"rule": "n", "reason": "never", "code": 554, "enhanced": "5.7.26"}`,
	}
	for n := range rules {
		d, err := ask(t, strings.Join(rules[:n+1], "\n"))
		if err != nil {
			t.Fatal(err)
		}
		if d.Action != Action(n) || len(d.Rules) != n+1 || len(d.Warnings) != 1 || d.Digest == "" {
			t.Errorf("%d rules: %+v", n+1, d)
		}
		if n > 0 && d.Rules[0] != "p.rego:"+string("wphdln"[n]) {
			t.Errorf("the rule that decided comes first: %v", d.Rules)
		}
		switch f := d.Failure(); d.Action {
		case Deny:
			if f == nil || f.Error() != "554 5.7.26 never" || f.Temporary() {
				t.Errorf("deny: %v", f)
			}
		case Defer:
			if f == nil || f.Error() != "451 4.7.0 later" || !f.Temporary() {
				t.Errorf("defer: %v", f)
			}
		default:
			if f != nil {
				t.Errorf("%v has a failure: %v", d.Action, f)
			}
		}
	}
}

func TestResults(t *testing.T) {
	d, err := ask(t, `
deny contains {"rule": "b", "reason": "second"}
deny contains {"rule": "a", "reason": "first", "detail": "for the log"}
hold contains {"rule": "h1", "reason": "x", "release_at": "2026-11-05T12:00:00Z"}
hold contains {"rule": "h2", "reason": "x", "release_at": 1793880000000000000}
pace contains {"rule": "p1", "until": "2026-11-05T12:00:00Z"}
pace contains {"rule": "p2", "until": "2026-11-05T14:00:00+01:00"}
tag contains {"rule": "t", "value": sprintf("size-%d", [input.envelope.size])}
route contains {"rule": "r2", "priority": 20, "use": "mx"}
route contains {"rule": "r1", "priority": 10, "use": ["connection:office", "platform"]}
method contains {"rule": "m", "use": ["domain", "name"]}
rewrite contains {"rule": "e1", "op": "add_header", "name": "X-Team", "value": "emea"}
rewrite contains {"rule": "e2", "op": "remove_header", "name": "X-Mailer"}
rewrite contains {"rule": "e3", "op": "subject_prefix", "value": "[test]"}
limit contains {"rule": "l", "key": ["tenant", 7], "count": "bytes", "rate": 2.5, "per": "7d", "over": "pace", "max_wait": "30m"}
`)
	if err != nil {
		t.Fatal(err)
	}
	if d.Action != Deny || d.Code != 550 || d.Enhanced != (mail.Enhanced{5, 7, 1}) || d.Reason != "first" || d.Detail != "for the log" {
		t.Errorf("deny: %+v", d)
	}
	if at := d.ReleaseAt.Format(time.RFC3339); at != "2026-11-05T12:00:00Z" && at != time.Unix(0, 1793880000000000000).UTC().Format(time.RFC3339) {
		t.Errorf("release at %s", at)
	}
	if at := d.Until.Format(time.RFC3339); at != "2026-11-05T13:00:00Z" {
		t.Errorf("until %s", at)
	}
	for got, want := range map[string]string{
		fmt.Sprint(d.Tags):    "[size-7]",
		fmt.Sprint(d.Route):   "[connection:office platform mx]",
		fmt.Sprint(d.Methods): "[domain name]",
		fmt.Sprint(d.Edits):   "[{1 X-Mailer } {2 X-Team emea} {4 Subject [test] }]",
		fmt.Sprint(d.Limits):  "[{p.rego:l [tenant 7] bytes 2.5 168h0m0s 2 pace 30m0s}]",
	} {
		if !equalUnordered(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// equalUnordered compares what sets print, whose order means nothing.
func equalUnordered(a, b string) bool {
	count := func(s string) (n [256]int) {
		for i := range len(s) {
			n[s[i]]++
		}
		return n
	}
	return count(a) == count(b)
}

// TestNeverAccept: whatever is not a clean answer is an error.
func TestNeverAccept(t *testing.T) {
	dynamic := "x := input.envelope.size\n"
	tests := map[string]string{
		"conflict":                    "a := 1 if input.stream == \"transactional\"\na := 2 if input.envelope.size == 7\ndeny contains {\"rule\": \"r\", \"reason\": \"x\"} if a == 3",
		"builtin error":               `deny contains {"rule": "r", "reason": "x"} if to_number(input.stream) > 5`,
		"division by zero":            dynamic + `deny contains {"rule": "r", "reason": "x"} if 1 / (x - 7) > 5`,
		"not an object":               "deny contains json.unmarshal(sprintf(\"%q\", [input.stream]))",
		"unknown field":               dynamic + `deny contains object.union({"rule": "r", "reason": "x"}, {sprintf("f%d", [x]): 1})`,
		"no rule":                     dynamic + `deny contains object.union({"reason": "x"}, {"code": 543 + x})`,
		"code of the other class":     dynamic + `deny contains {"rule": "r", "reason": "x", "code": 443 + x}`,
		"code that is none":           dynamic + `defer contains {"rule": "r", "reason": "x", "code": x}`,
		"fractional code":             dynamic + `deny contains {"rule": "r", "reason": "x", "code": 550.5 + x - x}`,
		"enhanced of the other class": dynamic + `deny contains {"rule": "r", "reason": "x", "enhanced": sprintf("4.%d.1", [x])}`,
		"enhanced that is none":       dynamic + `deny contains {"rule": "r", "reason": "x", "enhanced": sprintf("%d", [x])}`,
		"empty reason":                `deny contains {"rule": "r", "reason": trim(input.stream, "transactional")}`,
		"reason of the wrong type":    dynamic + `warn contains {"rule": "r", "reason": [x]}`,
		"rate of zero":                dynamic + `limit contains {"rule": "r", "key": ["a"], "count": "messages", "rate": x - 7, "per": "1h"}`,
		"rate of the wrong type":      `limit contains {"rule": "r", "key": ["a"], "count": "messages", "rate": input.stream, "per": "1h"}`,
		"period that is none":         `limit contains {"rule": "r", "key": ["a"], "count": "messages", "rate": 5, "per": input.stream}`,
		"count that is none":          `limit contains {"rule": "r", "key": ["a"], "count": input.stream, "rate": 5, "per": "1h"}`,
		"key that is none":            dynamic + `limit contains {"rule": "r", "key": [{"a": x}], "count": "messages", "rate": 5, "per": "1h"}`,
		"over that is none":           `limit contains {"rule": "r", "key": ["a"], "count": "messages", "rate": 5, "per": "1h", "over": input.stream}`,
		"upstream that is none":       `route contains {"rule": "r", "use": input.stream}`,
		"method that is none":         `method contains {"rule": "r", "use": [input.stream]}`,
		"time that is none":           `pace contains {"rule": "r", "until": input.stream}`,
		"change of From":              `rewrite contains {"rule": "r", "op": "remove_header", "name": concat("", ["FR", upper(substring("om", 0, -1))])}`,
		"field name that is none":     `rewrite contains {"rule": "r", "op": "add_header", "name": sprintf("X %s", [input.stream]), "value": "v"}`,
	}
	for name, rules := range tests {
		if d, err := ask(t, rules); err == nil {
			t.Errorf("%s: %+v", name, d)
		} else if f := mail.AsFailure(err); f.Code != 451 || f.Enhanced != (mail.Enhanced{4, 3, 0}) {
			t.Errorf("%s: the client is told %v", name, f)
		}
	}
}

// TestReplyCannotBeInjected: what a policy takes from a message stays one line.
func TestReplyCannotBeInjected(t *testing.T) {
	e := open(t, folder("package behalf.submission.message\n"+
		`deny contains {"rule": "r", "reason": sprintf("no %s", [input.message.subject])}
rewrite contains {"rule": "e", "op": "add_header", "name": "X-Was", "value": input.message.subject}`), Options{})
	in := &MessageInput{Message: Message{Subject: "a\r\n250 ok\x00\u0085b\xff" + strings.Repeat("é", 1000)}}
	d, err := e.Message(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{d.Reason, d.Edits[0].Value} {
		if strings.ContainsAny(s, "\r\n\x00\u0085") || len(s) > maxLine+len("…") || !strings.Contains(s, "250 ok") {
			t.Errorf("%q", s)
		}
	}
}

// TestDeadline: rules that do not end are ended, and the message is not let
// through; nor when the caller gives up.
func TestDeadline(t *testing.T) {
	loop := folder(sender + `deny contains {"rule": "r", "reason": "x"} if count([1 | some i in numbers.range(1, 100000); some j in numbers.range(1, 100000); i == j + 1000000]) > 0`)
	e := open(t, loop, Options{Deadline: 30 * time.Millisecond})
	start := time.Now()
	_, err := e.Sender(t.Context(), &SenderInput{})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Sender(ctx, &SenderInput{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestTurns: at most so many evaluations at once; who waits may give up.
func TestTurns(t *testing.T) {
	e := open(t, folder(sender+`tag contains {"rule": "r", "value": input.stream}`), Options{Concurrency: 1})
	e.turns <- struct{}{}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := e.Sender(ctx, &SenderInput{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	<-e.turns
	if d, err := e.Sender(t.Context(), &SenderInput{Stream: "s"}); err != nil || d.Tags[0] != "s" {
		t.Errorf("%v, %v", d, err)
	}
}

func TestInputIsBounded(t *testing.T) {
	e := open(t, folder("package behalf.submission.message\ndeny contains {\"rule\": \"r\", \"reason\": \"x\"} if \"bad.example\" in input.message.url_hosts"), Options{MaxInput: 10})
	in := &MessageInput{Message: Message{URLHosts: make([]string, 11)}}
	if _, err := e.Message(t.Context(), in); err == nil {
		t.Error("11 hosts were taken")
	}
	in.Message.URLHosts = in.Message.URLHosts[:10]
	if d, err := e.Message(t.Context(), in); err != nil || d.Action != Accept {
		t.Errorf("%v, %v", d, err)
	}
}

func TestMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	e := open(t, folder(sender+"deny contains {\"rule\": \"r\", \"reason\": \"x\"} if input.stream == \"bad\"\n"+
		`deny contains {"rule": "e", "reason": "x"} if to_number(input.credential.username) > 5`), Options{Metrics: r})
	for _, in := range []*SenderInput{
		{Credential: &Credential{Username: "1"}}, {Stream: "bad", Credential: &Credential{Username: "1"}}, {Credential: &Credential{Username: "x"}},
	} {
		e.Sender(t.Context(), in)
	}
	e.Pin().Limited(PackageSender)
	e.Active().Limited(PackageSender) // aside counts nowhere
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got, evaluations := map[string]float64{}, uint64(0)
	for _, f := range families {
		for _, m := range f.Metric {
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			switch {
			case labels["package"] != PackageSender:
			case f.GetName() == "behalf_policy_decisions_total":
				got[labels["decision"]] = m.Counter.GetValue()
			case f.GetName() == "behalf_policy_duration_seconds":
				evaluations = m.Histogram.GetSampleCount()
			}
		}
	}
	for decision, want := range map[string]float64{"accept": 1, "deny": 1, "error": 1, "hold": 0, "limit": 1} {
		if got[decision] != want {
			t.Errorf("decision %s counted %v times, want %v", decision, got[decision], want)
		}
	}
	if evaluations != 3 {
		t.Errorf("%d evaluations", evaluations)
	}
}

// write replaces a policy file.
func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestReload runs the watcher in false time: a changed set is in force within two
// seconds, a bad one never is and shows, and the last good one stays.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	tagged := func(v string) string {
		return sender + fmt.Sprintf("tag contains {\"rule\": \"r\", \"value\": %q}\n", v)
	}
	write(t, dir, "p.rego", tagged("one"))
	synctest.Test(t, func(t *testing.T) {
		e, err := New(t.Context(), Options{Path: dir, Watch: true})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { e.Run(ctx) })
		expect := func(want string, bad bool) {
			t.Helper()
			time.Sleep(1900 * time.Millisecond)
			synctest.Wait()
			d, err := e.Sender(t.Context(), &SenderInput{})
			if err != nil || len(d.Tags) != 1 || d.Tags[0] != want {
				t.Errorf("decision %+v, %v; want the tag %s", d, err, want)
			}
			if s := e.Status(); (s.Err != nil) != bad || s.Err != nil && s.Since.IsZero() || s.Digest != d.Digest {
				t.Errorf("status %+v, want bad %v", s, bad)
			}
		}
		expect("one", false)
		write(t, dir, "p.rego", tagged("two"))
		expect("two", false)
		write(t, dir, "p.rego", tagged("six")) // same length, maybe the same time
		expect("six", false)
		write(t, dir, "p.rego", sender+"tag contains {")
		expect("six", true)
		pinned := e.Pin()
		write(t, dir, "p.rego", tagged("new"))
		expect("new", false)
		if d, err := pinned.Sender(t.Context(), &SenderInput{}); err != nil || d.Tags[0] != "six" {
			t.Errorf("a pinned set changed: %v, %v", d, err)
		}
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		expect("new", true)
		if err := os.Rename(dir+".away", dir); err != nil {
			t.Fatal(err)
		}
		expect("new", false)
		cancel()
		wg.Wait()
	})
}

// TestReloadUnderLoad: while sets are swapped, each decision is made by one set.
func TestReloadUnderLoad(t *testing.T) {
	set := func(n int) fstest.MapFS {
		return folder(sender+"tag contains {\"rule\": \"a\", \"value\": data.n}\ntag contains {\"rule\": \"b\", \"value\": \""+fmt.Sprint(n)+"\"}",
			"data.yaml", fmt.Sprintf("n: %q", fmt.Sprint(n)))
	}
	e := open(t, set(0), Options{})
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				d, err := e.Sender(context.Background(), &SenderInput{})
				if err != nil || len(d.Tags) == 0 || d.Tags[0] != d.Tags[len(d.Tags)-1] {
					t.Errorf("%v, %v", d, err)
					return
				}
			}
		})
	}
	for n := 1; n < 30; n++ {
		src, err := readSource(set(n))
		if err == nil {
			err = e.offer(src)
		}
		if err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
}

// TestWhereFrom: a set is built in only while no folder is there, whatever the
// folder holds, also after a restart.
func TestWhereFrom(t *testing.T) {
	defaults := folder(sender)
	for _, gate := range []bool{false, true} {
		path, keep := filepath.Join(t.TempDir(), "policies"), t.TempDir()
		start := func() Status {
			e, err := New(t.Context(), Options{Path: path, Defaults: defaults, Keep: keep, Gate: gate})
			if err != nil {
				t.Fatal(err)
			}
			return e.Status()
		}
		if st := start(); !st.Default || st.Path != "" || len(st.History) != 1 || !st.History[0].Default {
			t.Errorf("without a folder: %+v", st)
		}
		if st := start(); !st.Default || st.Path != "" {
			t.Errorf("without a folder, again: %+v", st)
		}
		if err := os.CopyFS(path, defaults); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if st := start(); st.Default || st.Path != path || st.Pending != nil {
				t.Errorf("from a folder: %+v", st)
			}
		}
	}
}

// TestStart: no folder there means the defaults; a folder that does not compile
// is refused.
func TestStart(t *testing.T) {
	defaults := folder(sender)
	dir := t.TempDir()
	e, err := New(t.Context(), Options{Path: filepath.Join(dir, "none"), Defaults: defaults})
	if err != nil || !e.Status().Default {
		t.Fatalf("%+v, %v", e.Status(), err)
	}
	if d, err := e.Sender(t.Context(), &SenderInput{}); err != nil || d.Action != Accept {
		t.Errorf("%v, %v", d, err)
	}
	if _, err := New(t.Context(), Options{Path: dir, Defaults: defaults}); err == nil {
		t.Error("an empty folder was taken for a policy")
	}
	write(t, dir, "p.rego", "package x\ny := z")
	var problems Problems
	if _, err := New(t.Context(), Options{Path: dir, Defaults: defaults}); !errors.As(err, &problems) || problems[0].Line != 2 {
		t.Errorf("error %v", err)
	}
}

func TestRunTests(t *testing.T) {
	fs := folder(sender+"deny contains {\"rule\": \"r\", \"reason\": \"x\"} if input.stream == \"a\"\nunused if input.stream == \"never\"\n",
		"p_test.rego", "package p_test\nimport data.behalf.submission.sender\ntest_fires if count(sender.deny) == 1 with input.stream as \"a\"\ntest_fails if count(sender.deny) == 1 with input.stream as \"b\"\n")
	var out bytes.Buffer
	report, ok, err := Test(t.Context(), "", fs, nil, &out)
	if err != nil || ok || report.Passed != 1 || report.Failed != 1 {
		t.Fatalf("%+v, %v, %v", report, ok, err)
	}
	for _, want := range []string{"PASS  p_test.test_fires  p_test.rego:3", "FAIL  p_test.test_fails  p_test.rego:4", "p.rego  never run: lines 3", "1 passed, 1 failed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestEvalFile(t *testing.T) {
	fs := folder("package behalf.submission.message\n" +
		"deny contains {\"rule\": \"big\", \"reason\": \"x\"} if {\n\tinput.stream == \"s\"\n\tinput.message.size > 5\n}\n" +
		"tag contains {\"rule\": \"t\", \"value\": \"v\"} if {\n\tinput.stream == \"s\"\n\tinput.message.size < 5\n}\n")
	x, err := EvalFile(t.Context(), "", fs, "", strings.NewReader(`{"stream": "s", "message": {"size": 6}}`))
	if err != nil {
		t.Fatal(err)
	}
	if x.Package != PackageMessage || x.Decision.Action != Deny || fmt.Sprint(x.Decision.Rules) != "[p.rego:big]" {
		t.Errorf("%+v", x)
	}
	if len(x.Rules) != 2 || !x.Rules[0].Fired || x.Rules[0].Name != "deny big" || x.Rules[0].Line != 2 ||
		x.Rules[1].Fired || x.Rules[1].Failed != 8 {
		t.Errorf("%+v", x.Rules)
	}
	for _, bad := range []string{`{"message": {"sise": 6}}`, `[]`, `{"package": "x", "input": {}}`, `{"input": {"input": 3}}`} {
		if x, err := EvalFile(t.Context(), "", fs, "", strings.NewReader(bad)); err == nil {
			t.Errorf("%s: %+v", bad, x)
		}
	}
}
