package main_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"behalf/internal/testkit/lab"
	"behalf/policies"
	"behalf/policy"
	"behalf/relay/replay"
	"behalf/web/api"
)

// submitAs sends a message with a subject and gives the answer that ended it.
func submitAs(t *testing.T, r *lab.Relay, tenant string, subjects ...string) []answer {
	t.Helper()
	s, err := dialSession(r.Submissions, tenant+"/app", tenant+limitSecret)
	if err != nil {
		t.Fatal(err)
	}
	defer s.conn.Close()
	var all []answer
	for _, subject := range subjects {
		answers := s.talk("MAIL FROM:<app@"+tenant+".test>", "RCPT TO:<you@sink.test>", "DATA")
		last := answers[2]
		if last.code == 354 {
			last = s.body("From: app@" + tenant + ".test\r\nSubject: " + subject + "\r\n\r\nGood day\r\n")
		}
		all = append(all, last)
	}
	return all
}

func policyStatus(t *testing.T, r *lab.Relay) api.PolicyStatus {
	t.Helper()
	var st api.PolicyStatus
	if err := json.Unmarshal([]byte(r.MustCLI(t, "policy", "status", "-o", "json")), &st); err != nil {
		t.Fatal(err)
	}
	return st
}

const allowAll = "package behalf.submission.message\n\ntag contains {\"rule\": \"seen\", \"value\": \"seen\"}\n"

// A changed set waits, also over a restart, until somebody has seen what it
// would have decided and accepts it.
func TestE2EPolicyGate(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, nil)
	path := filepath.Join(lab.Dir(t), "policies")
	lab.Write(t, path, "a.rego", allowAll)
	r := w.Relay(t, lab.RelayOptions{Binary: binary(t), Config: "policy: { path: \"" + path + "\", gate: true }\n", Resources: viaTenants("acme")})
	says := func(when string, code int) {
		t.Helper()
		if a := submitAs(t, r, "acme", "never again")[0]; a.code != code {
			t.Errorf("%s: %s, want %d", when, a, code)
		}
	}
	says("before", 250)
	lab.Write(t, path, "b.rego", never)
	var waits policy.PendingSet
	lab.Until(t, soon, "the changed set to wait", func() bool {
		st := policyStatus(t, r)
		if st.Pending != nil {
			waits = *st.Pending
		}
		return st.Pending != nil
	})
	if len(waits.Changes.Rules) != 1 || waits.Changes.Rules[0].Rule != "never" || waits.Reviewed {
		t.Errorf("%+v", waits)
	}
	says("while it waits", 250)
	if out, err := r.CLI(t, "", "policy", "accept", waits.Digest); err == nil || !strings.Contains(out, "replay") {
		t.Errorf("accepted without a replay: %s", out)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	r.Start(t)
	says("after a restart", 250)
	lab.Until(t, soon, "the set to wait after the restart", func() bool {
		st := policyStatus(t, r)
		return st.Pending != nil && st.Pending.Digest == waits.Digest
	})
	if out, err := r.CLI(t, "", "policy", "accept", "0123456789abcdef0123456789abcdef"); err == nil {
		t.Errorf("accepted what does not wait: %s", out)
	}
	formats(t, r, "status", waits.Digest)
	if out := r.MustCLI(t, "policy", "status"); !strings.Contains(out, ", from "+path) || !strings.Contains(out, "added    rule  behalf.submission.message: deny never (b.rego)") {
		t.Errorf("the status is\n%s", out)
	}
	acceptReplayed(t, r, waits.Digest, says)
}

// formats sees that a command of policies writes what it has to tell in every
// format.
func formats(t *testing.T, r *lab.Relay, command, want string) {
	t.Helper()
	for format, begins := range map[string]string{"table": "", "json": "{\n", "jsonl": "{\"", "yaml": "---\n"} {
		out := r.MustCLI(t, "policy", command, "-o", format)
		if !strings.HasPrefix(out, begins) || !strings.Contains(out, want) || format == "jsonl" && strings.Count(out, "\n") != 1 {
			t.Errorf("%s -o %s is\n%s", command, format, out)
		}
	}
	if out, err := r.CLI(t, "", "policy", command, "-o", "toml"); err == nil {
		t.Errorf("%s -o toml is\n%s", command, out)
	}
}

// A draft is tried on live mail and decides nothing.
func TestE2EPolicyShadow(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, nil)
	dir := lab.Dir(t)
	path, draft := filepath.Join(dir, "policies"), filepath.Join(dir, "draft")
	lab.Write(t, path, "a.rego", allowAll)
	lab.Write(t, draft, "a.rego", allowAll)
	lab.Write(t, draft, "b.rego", never)
	r := w.Relay(t, lab.RelayOptions{Binary: binary(t), Config: "policy: { path: \"" + path + "\", shadow: \"" + draft + "\" }\n", Resources: viaTenants("acme", "globex")})
	shadow := func() policy.ShadowReport {
		t.Helper()
		var st policy.ShadowReport
		if err := json.Unmarshal([]byte(r.MustCLI(t, "policy", "shadow", "-o", "json")), &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	lab.Until(t, soon, "the draft to be tried", func() bool { return shadow().Digest != "" && shadow().Active != "" })
	for i := range 10 {
		for _, tenant := range []string{"acme", "globex"} {
			subject := fmt.Sprintf("good %d", i)
			if i < 3 && tenant == "acme" {
				subject = fmt.Sprintf("never %d", i)
			}
			if a := submitAs(t, r, tenant, subject)[0]; a.code != 250 {
				t.Fatalf("the draft decides: %s", a)
			}
		}
	}
	lab.Until(t, soon, "the draft to have been tried on all", func() bool {
		st := shadow()
		return st.Differs == 3 && st.Same >= 17
	})
	if st := shadow(); len(st.Groups) != 1 || st.Groups[0].Tenant != "acme" || st.Groups[0].Would != policy.Deny || st.Groups[0].Rule != "b.rego:never" || st.Failed+st.Dropped != 0 {
		t.Errorf("%+v", st)
	}
	formats(t, r, "shadow", shadow().Digest)
	lab.Write(t, draft, "b.rego", "package behalf.submission.message\n\ndeny contains {\n")
	lab.Until(t, soon, "the broken draft to be told of", func() bool { return strings.Contains(shadow().Error, "b.rego") })
	if code, body := r.Ready(); code != 200 {
		t.Errorf("a broken draft makes the relay unready: %s", body)
	}
	if a := submitAs(t, r, "acme", "never")[0]; a.code != 250 {
		t.Error(a)
	}
}

// A start with a set that does not compile is refused, with file and line.
func TestE2EPolicyStart(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, nil)
	path := filepath.Join(lab.Dir(t), "policies")
	lab.Write(t, path, "a.rego", allowAll)
	r := w.Relay(t, lab.RelayOptions{Binary: binary(t), Config: "policy: { path: \"" + path + "\" }\n", Resources: viaTenants("acme")})
	for text, want := range map[string]string{
		"package behalf.submission.message\n\ndeny contains {\n":                                                                           "b.rego:4",
		"package behalf.submission.message\n\n\ndeny contains {\"rule\": \"x\", \"reason\": \"x\"} if input.tenant.lables.plan == \"x\"\n": "b.rego:4",
		"package behalf.submission.message\n\na if b\n\nb if a\n\ndeny contains {\"rule\": \"x\", \"reason\": \"x\"} if a\n":               "b.rego:",
	} {
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
		lab.Write(t, path, "b.rego", text)
		r.Launch(t)
		lab.Until(t, soon, "the relay to refuse", func() bool { return !r.Running() })
		if log := r.Log(); !strings.Contains(log, want) {
			t.Errorf("it does not say %s:\n%s", want, log)
		}
		if err := r.Stop(); err == nil {
			t.Error("it ended as if all were well")
		}
		lab.Write(t, path, "b.rego", never)
		r.Start(t)
	}
}

// replayed is what a replay with more flags tells.
func replayed(t *testing.T, r *lab.Relay, flags ...string) replay.Report {
	t.Helper()
	var report replay.Report
	out := r.MustCLI(t, append([]string{"policy", "replay", "--since", "1h", "-o", "json"}, flags...)...)
	if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &report); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return report
}

var replayDecisions = flag.Int("replay.decisions", 1000, "how many decisions are recorded before they are replayed")

// What the default policies decided they would decide again; a changed rule
// makes exactly the difference that it must.
func TestE2EPolicyReplay(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, nil)
	dir := lab.Dir(t)
	path, changed := filepath.Join(dir, "policies"), filepath.Join(dir, "changed")
	for _, folder := range []string{path, changed} {
		if err := os.CopyFS(folder, policies.FS); err != nil {
			t.Fatal(err)
		}
		lab.Write(t, folder, "never.rego", never)
	}
	lab.Write(t, changed, "odd.rego", "package behalf.submission.recipient\n\ndefer contains {\"rule\": \"odd\", \"reason\": \"odd\"} if startswith(input.recipient.address, \"odd\")\n")
	r := w.Relay(t, lab.RelayOptions{Binary: binary(t), Config: "policy: { path: \"" + path + "\" }\n",
		Resources: strings.ReplaceAll(viaTenants("acme", "globex", "initech"), "kind: tenant\n", "kind: tenant\nlabels: { plan: enterprise }\n")})
	var mu sync.Mutex
	var wg sync.WaitGroup
	decisions, odd, answers := 0, map[string]int{}, map[int]int{}
	for _, tenant := range []string{"acme", "globex", "initech"} {
		wg.Go(func() {
			s, err := dialSession(r.Submissions, tenant+"/app", tenant+limitSecret)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.conn.Close()
			for n := 0; ; n++ {
				lines := []string{"MAIL FROM:<app@" + tenant + ".test>", "RCPT TO:<you@sink.test>", "RCPT TO:<odd@sink.test>", "DATA"}
				if n%3 > 0 {
					lines = slices.Delete(lines, 2, 3)
				}
				subject := "good"
				if n%5 == 0 {
					subject = "never"
				}
				got := s.talk(lines...)
				if last := got[len(got)-1]; last.code != 354 {
					t.Errorf("%v", got)
					return
				}
				last := s.body("From: app@" + tenant + ".test\r\nSubject: " + subject + "\r\n\r\nGood day\r\n")
				mu.Lock()
				answers[last.code]++
				decisions += len(lines)
				if n%3 == 0 {
					odd[tenant]++
				}
				enough := decisions >= *replayDecisions
				mu.Unlock()
				if last.code != 250 && last.code != 550 {
					t.Errorf("%s", last)
					return
				}
				if enough {
					return
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	var same replay.Report
	lab.Until(t, soon, "all decisions to be recorded", func() bool {
		same = replayed(t, r, "--active")
		return same.Decisions >= decisions
	})
	t.Logf("%d decisions, answers %v: %d the same, %d differ, %d undecidable", same.Decisions, answers, same.Same, same.Differing, same.Undecidable)
	if same.Decisions != decisions || same.Same != decisions || !same.Clean() || same.Unreadable > 0 {
		t.Errorf("%d decisions: %+v", decisions, same)
	}
	begun := time.Now()
	report := replayed(t, r, "--path", changed)
	t.Logf("replayed in %s: %d the same, %d differ, %d not reached", time.Since(begun).Round(time.Millisecond), report.Same, report.Differing, report.NotReached)
	total := 0
	for tenant, n := range odd {
		total += n
		if i := slices.IndexFunc(report.Tenants, func(c replay.TenantCount) bool { return c.Tenant == tenant }); i < 0 || report.Tenants[i].Differing != n {
			t.Errorf("%s: %d recipients were odd: %+v", tenant, n, report.Tenants)
		}
	}
	if report.Decisions != decisions || report.Differing != total || len(report.Rules) != 1 || report.Rules[0].Would != "defer" || report.Rules[0].WouldRule != "odd.rego:odd" || report.Errors+report.Undecidable > 0 {
		t.Errorf("%d of %d decisions must differ: %+v", total, decisions, report)
	}
}

// acceptReplayed replays the set that waits, accepts it, and sees that it is in
// force, also after a restart.
func acceptReplayed(t *testing.T, r *lab.Relay, digest string, says func(when string, code int)) {
	t.Helper()
	report := replayed(t, r)
	// Three messages were let through before this moment.
	if report.Digest != digest || report.Differing != 3 || len(report.Rules) != 1 || report.Rules[0].Would != "deny" || report.Rules[0].WouldRule != "b.rego:never" {
		t.Errorf("%+v", report)
	}
	r.MustCLI(t, "policy", "accept", digest)
	says("once it is accepted", 550)
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	r.Start(t)
	says("after another restart", 550)
	st := policyStatus(t, r)
	if st.Pending != nil || st.Digest != digest || len(st.History) < 2 || st.History[0].By == "" {
		t.Errorf("%+v", st)
	}
}
