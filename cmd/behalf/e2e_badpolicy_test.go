package main_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"behalf/internal/testkit/lab"
)

var badPause = flag.Duration("bad.pause", 500*time.Millisecond, "how long mail is judged while each bad policy set is in place")

// never refuses what begins so, in the good set and in every bad one that can
// be loaded; it must never be let through.
const never = `package behalf.submission.message

deny contains {"rule": "never", "reason": "never this"} if startswith(input.message.subject, "never")
`

// A bad set. What cannot be loaded leaves the good set in force; what fails
// when it is asked fails for the tenant acme only.
type badSet struct {
	name   string
	files  map[string]string // besides never.rego
	place  string            // what /readyz says of a set that cannot be loaded, as a pattern
	reason string            // what it says to the admin, likewise
	spoil  func(t *testing.T, folder string)
	quick  bool // a fast machine may come to an answer
}

func rego(text string) map[string]string {
	return map[string]string{"bad.rego": "package behalf.submission.message\n\nacme if input.tenant.name == \"acme\"\n\n" + text}
}

// bomb is a set whose rule works hard for acme.
func bomb(name, text string) badSet { return badSet{name: name, files: rego(text)} }

func unloadable() []badSet {
	return []badSet{
		{name: "does not compile", files: rego("deny contains {\n"), place: `bad\.rego:\d+`, reason: `bad\.rego:\d+`},
		{name: "a field that is not there", files: rego("deny contains {\"rule\": \"x\", \"reason\": input.tenant.lables.plan}\n"), place: `bad\.rego:\d+`, reason: `bad\.rego:\d+.*lables`},
		{name: "recursion", files: rego("a if b\n\nb if a\n\ndeny contains {\"rule\": \"x\", \"reason\": \"x\"} if a\n"), place: `bad\.rego:\d+`, reason: `bad\.rego:\d+.*recurs`},
		{name: "a builtin that is not there", files: rego("deny contains {\"rule\": \"x\", \"reason\": \"x\"} if http.send({\"method\": \"get\", \"url\": \"http://x.test\"}).status_code == 200\n"), place: `bad\.rego:\d+`, reason: `bad\.rego:\d+.*http\.send`},
		{name: "too much Rego", files: rego("# " + strings.Repeat("x", 3<<20) + "\n"), place: `bad\.rego.*too big`, reason: `bad\.rego.*too big`},
		{name: "too much data", files: map[string]string{"data.json": `{"x": "` + strings.Repeat("x", 17<<20) + `"}`}, place: `data\.json.*too big`, reason: `data\.json.*too big`},
		{name: "broken data", files: map[string]string{"data.yaml": "a: [1, 2\nb: }\n"}, place: `data\.yaml`, reason: `data\.yaml`},
		{name: "a file that cannot be read", place: `gone\.rego`, reason: `gone\.rego`, spoil: func(t *testing.T, folder string) {
			if err := os.Symlink(filepath.Join(folder, "nowhere"), filepath.Join(folder, "gone.rego")); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "empty folder", place: `no \.rego file`, reason: `no \.rego file`, spoil: func(t *testing.T, folder string) {
			if err := os.Remove(filepath.Join(folder, "never.rego")); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "no folder", place: `folder is gone`, reason: `not exist|no such`, spoil: func(t *testing.T, folder string) {
			if err := os.RemoveAll(folder); err != nil {
				t.Fatal(err)
			}
		}},
	}
}

func bombs() []badSet {
	doubling, lists := "s0 := input.tenant.name\n\n", "s0 := [1]\n\n"
	for i := range 30 {
		doubling += fmt.Sprintf("s%d := concat(\"\", [s%d, s%d])\n\n", i+1, i, i)
		lists += fmt.Sprintf("s%d := array.concat(s%d, s%d)\n\n", i+1, i, i)
	}
	return []badSet{
		bomb("complete rules that conflict", "x := 1 if acme\n\nx := 2 if input.message.size > 0\n\ndeny contains {\"rule\": \"x\", \"reason\": \"x\"} if x == 3\n"),
		bomb("a range of 50 million", "deny contains {\"rule\": \"x\", \"reason\": \"x\"} if {\n\tacme\n\tcount(numbers.range(1, 50000000)) == 3\n}\n"),
		bomb("a range over nothing but numbers", "far := numbers.range(1, 50000000)\n\ndeny contains {\"rule\": \"x\", \"reason\": \"x\"} if {\n\tacme\n\tcount(far) == 3\n}\n"),
		bomb("a cross product", "deny contains {\"rule\": \"x\", \"reason\": \"x\"} if {\n\tacme\n\tsome a in numbers.range(1, 9999)\n\tsome b in numbers.range(1, 9999)\n\ta * b == -1\n}\n"),
		bomb("a walk", "tree := {k: {l: {m: 1 | some m in numbers.range(1, 99)} | some l in numbers.range(1, 99)} | some k in numbers.range(1, 99)}\n\ndeny contains {\"rule\": \"x\", \"reason\": \"x\"} if {\n\tacme\n\tcount([p | walk(tree, [p, _])]) == 3\n}\n"),
		bomb("text that doubles", doubling+"deny contains {\"rule\": \"x\", \"reason\": \"x\"} if {\n\tacme\n\tcount(s30) == 3\n}\n"),
		bomb("lists that double", lists+"deny contains {\"rule\": \"x\", \"reason\": \"x\"} if {\n\tacme\n\tcount(s30) == 3\n}\n"),
		{name: "a regular expression", quick: true, files: rego("deny contains {\"rule\": \"x\", \"reason\": \"x\"} if {\n\tacme\n\ttext := concat(\"\", [\"a\" | some _ in numbers.range(1, 100000)])\n\tregex.match(`(a|aa|aaa|(a*)*){500}b`, text)\n}\n")},
		bomb("patterns that meet", "deny contains {\"rule\": \"x\", \"reason\": \"x\"} if {\n\tacme\n\tregex.globs_match(`a*b*a*b*a*b*a*b*a*b*a*b*a*b*c`, `.*.*.*.*.*.*.*.*.*.*.*.*.*.*d`)\n}\n"),
		bomb("an object of 10 MB", "deny contains {\"rule\": \"x\", \"reason\": \"x\"} if {\n\tacme\n\tcount({sprintf(\"key %d\", [i]): sprintf(\"%050d\", [i]) | some i in numbers.range(1, 150000)}) == 3\n}\n"),
		bomb("a wide column", "deny contains {\"rule\": \"x\", \"reason\": \"x\"} if {\n\tacme\n\tcount(sprintf(\"%0999999d%0999999d%0999999d\", [1, 2, 3])) == 3\n}\n"),
		bomb("an error for one tenant", "deny contains {\"rule\": \"x\", \"reason\": \"x\"} if {\n\tacme\n\tto_number(input.tenant.name) == 3\n}\n"),
		bomb("a result of the wrong form", "deny contains object.union({\"rule\": \"x\"}, {\"reason\": input.message.size}) if acme\n"),
	}
}

// judged is what became of the mail of one tenant.
type judged struct {
	good, never map[string]int // answers
	slowest     []time.Duration
}

// jury keeps mail coming from tenants and notes every answer.
type jury struct {
	r *lab.Relay

	mu       sync.Mutex
	of       map[string]*judged
	taken    []string
	problems []string
	n        int
}

func (j *jury) run(tenant string, stop <-chan struct{}) {
	var s *session
	for !closed(stop) {
		if s == nil {
			var err error
			if s, err = dialSession(j.r.Submissions, tenant+"/app", tenant+limitSecret); err != nil {
				j.problem("%v", err)
				return
			}
		}
		j.mu.Lock()
		j.n++
		subject := fmt.Sprintf("token-%d-", j.n)
		if j.n%3 == 0 {
			subject = fmt.Sprintf("never-%d-", j.n)
		}
		j.mu.Unlock()
		begun := time.Now()
		answers := s.talk("MAIL FROM:<app@"+tenant+".test>", "RCPT TO:<you@sink.test>", "DATA")
		last := answers[2]
		if last.code == 354 {
			last = s.body("From: app@" + tenant + ".test\r\nSubject: " + subject + "\r\n\r\nGood day\r\n")
		}
		j.note(tenant, subject, last, time.Since(begun))
		if last.code == 0 {
			j.problem("the connection broke: %v %s", answers, last)
			s = nil
		} else if last.code != 250 && last.code != 550 {
			s.say("RSET")
		}
		time.Sleep(15 * time.Millisecond)
	}
	if s != nil {
		s.conn.Close()
	}
}

func (j *jury) problem(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.problems) < 20 {
		j.problems = append(j.problems, fmt.Sprintf(format, args...))
	}
}

func (j *jury) note(tenant, subject string, a answer, took time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	o := j.of[tenant]
	o.slowest = append(o.slowest, took)
	answers := o.good
	if strings.HasPrefix(subject, "never") {
		answers = o.never
		if a.code == 250 {
			j.problems = append(j.problems, fmt.Sprintf("%s of %s got %s", subject, tenant, a))
		}
	} else if a.code == 250 {
		j.taken = append(j.taken, subject)
	}
	answers[strconv.Itoa(a.code)]++
}

// fresh begins a new count.
func (j *jury) fresh(tenants ...string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.of = map[string]*judged{}
	for _, name := range tenants {
		j.of[name] = &judged{good: map[string]int{}, never: map[string]int{}}
	}
}

// tell shows the count of a tenant.
func (j *jury) tell(tenant string) string {
	o := j.of[tenant]
	slices.Sort(o.slowest)
	if len(o.slowest) == 0 {
		return tenant + ": nothing"
	}
	at := func(q float64) time.Duration {
		return o.slowest[int(float64(len(o.slowest)-1)*q)].Round(time.Millisecond)
	}
	return fmt.Sprintf("%s: good %v, never %v, median %s, 99%% %s, most %s", tenant, o.good, o.never, at(0.5), at(0.99), at(1))
}

// memory is what the process has resident in MiB, and the most it ever had
// since the last call.
func memory(t *testing.T, r *lab.Relay) (now, most int) {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d/", r.PID())
	b, err := os.ReadFile(proc + "status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.Atoi(f[1])
		switch f[0] {
		case "VmRSS:":
			now = kib >> 10
		case "VmHWM:":
			most = kib >> 10
		}
	}
	if err := os.WriteFile(proc+"clear_refs", []byte("5"), 0); err != nil && !errors.Is(err, os.ErrPermission) {
		t.Fatal(err) // 5 sets the peak back
	}
	return now, most
}

var decisionsFailed = regexp.MustCompile(`(?m)^behalf_policy_decisions_total\{decision="error",package="behalf.submission.message"\} (\d+)`)

func failedDecisions(t *testing.T, r *lab.Relay) int {
	t.Helper()
	m := decisionsFailed.FindStringSubmatch(r.Metrics(t))
	if m == nil {
		t.Fatal("no count of decisions that failed")
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

func digestInForce(t *testing.T, r *lab.Relay) string {
	t.Helper()
	var st struct{ Digest string }
	if err := json.Unmarshal(getJSON(t, http.DefaultClient, r.HTTP+"/v1/policies", r.AdminKey(t)), &st); err != nil {
		t.Fatal(err)
	}
	return st.Digest
}

// Whatever is put in the policy folder while mail flows: nothing goes out
// unjudged, nothing that was accepted is lost, memory stays bounded, a tenant
// that the fault does not concern notices little, and operators are told. Once
// the good set is back, so is everything.
func TestE2EBadPolicies(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, nil)
	dir := lab.Dir(t)
	path := filepath.Join(dir, "policies")
	good := filepath.Join(dir, "good")
	lab.Write(t, good, "never.rego", never)
	put(t, path, good)
	r := w.Relay(t, lab.RelayOptions{Binary: binary(t), Config: "policy: { path: \"" + path + "\" }\n", Resources: viaTenants("acme", "globex")})
	j := &jury{r: r}
	j.fresh("acme", "globex")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { j.run("acme", stop) })
		wg.Go(func() { j.run("globex", stop) })
	}
	ended := false
	end := func() {
		if !ended {
			ended = true
			close(stop)
			wg.Wait()
		}
	}
	defer end()

	inForce := digestInForce(t, r)
	restore := func() {
		t.Helper()
		put(t, path, good)
		begun := time.Now()
		lab.Until(t, 10*time.Second, "the good set to be in force", func() bool {
			code, _ := r.Ready()
			return code == http.StatusOK && digestInForce(t, r) == inForce
		})
		took := time.Since(begun)
		t.Logf("the good set was in force after %s", took.Round(10*time.Millisecond))
		if took > 4*time.Second { // two seconds, on a machine that has time
			t.Errorf("the good set was in force after %s", took)
		}
		time.Sleep(600 * time.Millisecond) // what began before may end
		j.fresh("acme", "globex")
		time.Sleep(*badPause / 2)
		j.mu.Lock()
		defer j.mu.Unlock()
		for name, o := range j.of {
			if o.good["250"] == 0 || len(o.good) > 1 || len(o.never) > 1 {
				t.Errorf("with the good set back, %s", j.tell(name))
			}
		}
	}
	lay := func(i int, kind string, b badSet) {
		folder := filepath.Join(dir, fmt.Sprint(kind, i))
		lab.Write(t, folder, "never.rego", never)
		for name, text := range b.files {
			lab.Write(t, folder, name, text)
		}
		if b.spoil != nil {
			b.spoil(t, folder)
		}
		put(t, path, folder)
	}

	for i, b := range unloadable() {
		lay(i, "unloadable", b)
		j.fresh("acme", "globex")
		lab.Until(t, 10*time.Second, "the admin to be told of: "+b.name, func() bool {
			return regexp.MustCompile(b.reason).MatchString(policyStatus(t, r).Error)
		})
		if code, body := r.Ready(); code != http.StatusServiceUnavailable || !regexp.MustCompile(b.place).MatchString(body) || strings.Contains(body, dir) {
			t.Errorf("%s: /readyz tells %d %s", b.name, code, body)
		}
		if !strings.Contains(r.Metrics(t), "\nbehalf_policy_stale 1") {
			t.Errorf("%s: the metrics do not tell", b.name)
		}
		if !strings.Contains(r.Log(), "level=ERROR msg=\"policies not loaded") {
			t.Errorf("%s: the log does not tell", b.name)
		}
		if digest := digestInForce(t, r); digest != inForce {
			t.Errorf("%s: %s is in force, not the last good set %s", b.name, digest, inForce)
		}
		j.mu.Lock()
		for name, o := range j.of {
			if len(o.good) > 1 || len(o.never) > 1 || o.good["250"] == 0 {
				t.Errorf("%s: %s", b.name, j.tell(name))
			}
		}
		j.mu.Unlock()
	}
	restore()

	for i, b := range bombs() {
		before := digestInForce(t, r)
		failed := failedDecisions(t, r)
		_, _ = memory(t, r)
		lay(i, "bomb", b)
		refused := false
		lab.Until(t, 10*time.Second, "the set to be in force or refused: "+b.name, func() bool {
			_, body := r.Ready()
			refused = strings.Contains(body, "the newest set was refused")
			return refused || digestInForce(t, r) != before
		})
		j.fresh("acme", "globex")
		time.Sleep(*badPause)
		if !refused {
			lab.Until(t, 15*time.Second, "/readyz to tell that decisions fail, and the other tenant to be served: "+b.name, func() bool {
				_, body := r.Ready() // that one tenant is refused is a warning when there is much other mail
				j.mu.Lock()
				defer j.mu.Unlock()
				return (strings.Contains(body, " failed ") || b.quick) && j.of["globex"].good["250"] >= 3
			})
		}
		code, body := r.Ready()
		now, most := memory(t, r)
		j.mu.Lock()
		t.Logf("%s: refused %v, %d decisions failed, resident %d MiB, at most %d MiB\n\t%s\n\t%s\n\t%d %s", b.name, refused, failedDecisions(t, r)-failed, now, most, j.tell("acme"), j.tell("globex"), code, body)
		acme, other := j.of["acme"], j.of["globex"]
		if len(other.good) != 1 || other.good["250"] == 0 || len(other.never) > 1 {
			t.Errorf("%s: the other tenant notices: %s", b.name, j.tell("globex"))
		}
		if other.slowest[len(other.slowest)-1] > 3*time.Second {
			t.Errorf("%s: the other tenant waits: %s", b.name, j.tell("globex"))
		}
		if most > 512 {
			t.Errorf("%s: %d MiB", b.name, most)
		}
		j.mu.Unlock()
		if acme.good["451"] > 0 && !strings.Contains(r.Log(), "policy could not decide") {
			t.Errorf("%s: the log does not tell", b.name)
		}
		if refused {
			restore()
		}
	}
	restore()
	end()
	for _, p := range j.problems {
		t.Error(p)
	}
	lab.Until(t, time.Minute, "all that was accepted to arrive", func() bool {
		got := map[string]bool{}
		for _, m := range w.Sink.Messages() {
			got[tokenOf(m.Data)] = true
		}
		return !slices.ContainsFunc(j.taken, func(token string) bool { return !got[token] })
	})
	if n := lab.Count(w.Sink, "Subject: never"); n > 0 {
		t.Errorf("%d messages arrived that must never", n)
	}
	t.Logf("%d messages were accepted and arrived", len(j.taken))
}
