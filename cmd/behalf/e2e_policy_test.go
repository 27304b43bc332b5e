package main_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"behalf/internal/testkit/lab"
)

// defaultReloadRate is what a busy machine gives beside other tests.
const defaultReloadRate = 300

var (
	reloadSets   = flag.Int("reload.sets", 12, "how many policy sets come one after the other, one a second")
	reloadRate   = flag.Int("reload.rate", defaultReloadRate, "messages a second meanwhile; more than the default must be reached")
	reloadTraces = flag.Int("reload.traces", 300, "how many traces are read")
)

// tenants gives YAML of tenants that send under the platform's name; each has
// the credential NAME/app.
func viaTenants(names ...string) string {
	var docs []string
	for _, name := range names {
		docs = append(docs, fmt.Sprintf("kind: tenant\nname: %s\nmethods: [name]\nallow_from_change: true\nroute: [ { upstream: mx } ]\n", name),
			fmt.Sprintf("kind: credential\ntenant: %s\nname: app\nsecret: %s\n", name, name+limitSecret))
	}
	return strings.Join(docs, "---\n")
}

// viaHop gives YAML of a tenant whose mail goes through an SMTP account, and is
// not signed: a signature costs more than all else that is done to a message.
func viaHop(w *lab.World, name string) string {
	return fmt.Sprintf("kind: tenant\nname: %[1]s\nmethods: [connection]\nroute: [ { connection: hop } ]\n---\n"+
		"kind: credential\ntenant: %[1]s\nname: app\nsecret: %[1]s%[2]s\n---\n"+
		"kind: identity\ntenant: %[1]s\naddress: \"*@%[1]s.test\"\nverified: true\n---\n"+
		"kind: connection\ntenant: %[1]s\nname: hop\nprovider: smtp\nsenders: [app@%[1]s.test, \"*@%[1]s.test\"]\nsmtp: { host: %[3]s, port: %[4]d, security: none }\n",
		name, limitSecret, w.Sink.Host(), w.Sink.Port())
}

// put makes a folder what the path names, in one step: the path is a symbolic
// link.
func put(t *testing.T, path, folder string) {
	t.Helper()
	if err := os.Symlink(folder, path+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// numbered is a set that stamps its number on each stage, and an odd one
// refuses recipients called odd.
func numbered(n int) map[string]string {
	const text = `package behalf.submission.%s

tag contains {"rule": "set", "value": "%c-%d"}

rewrite contains {"rule": "set", "op": "add_header", "name": "X-Set-%c", "value": "%d"}

limit contains {"rule": "set", "key": ["set", "%d"], "count": "messages", "rate": 100000000, "per": "1h"}

warn contains {"rule": "set", "reason": "%c set %d."}
`
	set := map[string]string{}
	for _, stage := range []string{"sender", "recipient", "message"} {
		c := stage[0]
		set[stage+".rego"] = fmt.Sprintf(text, stage, c, n, c, n, n, c, n)
	}
	if n%2 == 1 {
		set["recipient.rego"] += fmt.Sprintf("\ndeny contains {\"rule\": \"odd\", \"reason\": \"refused by set %d.\"} if startswith(input.recipient.address, \"odd\")\n", n)
	}
	return set
}

var setIn = regexp.MustCompile(`set (\d+)\.`)

// reloading submits while the rules change.
type reloading struct {
	r     *lab.Relay
	ticks chan struct{}
	next  atomic.Int64

	mu       sync.Mutex
	put      []time.Time // when each set was put in place
	taken    map[string]int
	ids      []string
	setOf    map[string]int // by id
	refused  int
	problems []string
	sets     map[int]int
}

func (l *reloading) problem(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.problems) < 20 {
		l.problems = append(l.problems, fmt.Sprintf(format, args...))
	}
}

// run sends one message for each tick.
func (l *reloading) run() {
	s, err := dialSession(l.r.Submissions, "acme/app", "acme"+limitSecret)
	if err != nil {
		l.problem("%v", err)
		return
	}
	defer s.conn.Close()
	for range l.ticks {
		n := l.next.Add(1)
		token := fmt.Sprintf("token-%d-", n)
		lines := []string{"MAIL FROM:<app@acme.test>", "RCPT TO:<you@sink.test>", "DATA"}
		if n%4 == 0 {
			lines = slices.Insert(lines, 2, "RCPT TO:<odd@sink.test>")
		}
		begun := time.Now()
		answers := s.talk(lines...)
		last := answers[len(answers)-1]
		if last.code == 354 {
			last = s.body("From: app@acme.test\r\nSubject: " + token + "\r\n\r\nGood day\r\n")
		}
		if last.code != 250 || answers[0].code != 250 || answers[1].code != 250 {
			l.problem("%s was answered %v, %s", token, answers, last)
			if last.code == 0 {
				return
			}
			continue
		}
		l.judge(token, begun, answers, last)
	}
}

// judge finds the one set that has judged the message.
func (l *reloading) judge(token string, begun time.Time, answers []answer, last answer) {
	said := last.text
	odd := len(answers) == 4
	if odd && answers[2].code == 550 {
		said += "\n" + answers[2].text
	}
	set := 0
	for _, m := range setIn.FindAllStringSubmatch(said, -1) {
		n, _ := strconv.Atoi(m[1])
		if set != 0 && set != n {
			l.problem("%s was judged by set %d and set %d: %q", token, set, n, said)
		}
		set = n
	}
	if odd && (answers[2].code == 550) != (set%2 == 1) {
		l.problem("%s was judged by set %d, and odd was answered %s", token, set, answers[2])
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken[token] = 1
	if odd && answers[2].code == 250 {
		l.taken[token] = 2
	} else if odd {
		l.refused++
	}
	if m := queuedAs.FindStringSubmatch(last.text); m != nil {
		l.ids = append(l.ids, m[1])
		l.setOf[m[1]] = set
	}
	l.sets[set]++
	// A set is in force within two seconds; a busy machine gets some more.
	if set >= len(l.put) || set+1 < len(l.put) && begun.Sub(l.put[set+1]) > 6*time.Second {
		if len(l.problems) < 20 {
			l.problems = append(l.problems, fmt.Sprintf("%s was judged by set %d of %d", token, set, len(l.put)))
		}
	}
}

// A new set each second under load: nothing is dropped, every answer is that of
// one set, and all that a message carries and its trace say is of that one.
func TestE2EPolicyReload(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, nil)
	dir := lab.Dir(t)
	path := filepath.Join(dir, "policies")
	folder := func(n int) string { return filepath.Join(dir, fmt.Sprint("set-", n)) }
	write := func(to string, n int) {
		for name, text := range numbered(n) {
			lab.Write(t, to, name, text)
		}
	}
	write(folder(1), 1)
	put(t, path, folder(1))
	r := w.Relay(t, lab.RelayOptions{Binary: binary(t), Config: "policy: { path: \"" + path + "\" }\n", Resources: viaHop(w, "acme"), LogLevel: "info"})
	l := &reloading{r: r, ticks: make(chan struct{}), taken: map[string]int{}, setOf: map[string]int{}, sets: map[int]int{}, put: []time.Time{{}, time.Now()}}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(l.run)
	}
	ctx, stop := context.WithCancel(t.Context())
	wg.Go(func() {
		defer close(l.ticks)
		begun := time.Now()
		for n := 0; ctx.Err() == nil; {
			if due := int(time.Since(begun).Seconds() * float64(*reloadRate)); n < due {
				select {
				case l.ticks <- struct{}{}:
					n++
				case <-ctx.Done():
				}
			} else {
				time.Sleep(2 * time.Millisecond)
			}
		}
	})
	at, begun := folder(1), time.Now()
	for n := 2; n <= *reloadSets; n++ {
		time.Sleep(time.Second)
		l.mu.Lock()
		l.put = append(l.put, time.Now())
		l.mu.Unlock()
		if n%2 == 0 { // a new folder by a link, or the files of the one that is there
			at = folder(n)
			write(at, n)
			put(t, path, at)
		} else {
			write(at, n)
		}
	}
	time.Sleep(2 * time.Second)
	took := time.Since(begun)
	stop()
	wg.Wait()
	t.Logf("%d messages in %s, %.0f a second; %d recipients refused; messages by set: %v", len(l.taken), took.Round(time.Millisecond), float64(len(l.taken))/took.Seconds(), l.refused, l.sets)
	for _, p := range l.problems {
		t.Error(p)
	}
	if len(l.sets) < *reloadSets*3/4 || len(l.taken) < 20**reloadSets {
		t.Errorf("%d messages were judged by %d of %d sets; that proves little", len(l.taken), len(l.sets), *reloadSets)
	}
	if rate := float64(len(l.taken)) / took.Seconds(); rate < 0.9*float64(*reloadRate) && *reloadRate > defaultReloadRate {
		t.Errorf("%.0f messages a second, not the %d asked for", rate, *reloadRate)
	}
	l.arrive(t, w)
	l.traces(t)
}

var stampIn = regexp.MustCompile(`(?m)^X-Set-([smr]): (\d+)`)

// arrive waits for what was taken, and looks at the stamps.
func (l *reloading) arrive(t *testing.T, w *lab.World) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		got := map[string]int{}
		messages := w.Sink.Messages()
		for _, m := range messages {
			got[tokenOf(m.Data)] += len(m.To)
		}
		missing := ""
		for token, n := range l.taken {
			if got[token] < n {
				missing = token
			}
		}
		if missing != "" {
			if time.Now().After(end) {
				t.Fatalf("%s was accepted and did not arrive\n%s", missing, l.r.MustCLI(t, "queue", "stats"))
			}
			continue
		}
		for _, m := range messages {
			stamps := stampIn.FindAllStringSubmatch(m.Data, -1)
			if len(stamps) != 3 || stamps[0][2] != stamps[1][2] || stamps[0][2] != stamps[2][2] {
				t.Fatalf("the stamps are %v in\n%s", stamps, m.Data)
			}
		}
		return
	}
}

// traces reads some of the messages: every stage names the digest of the one
// set, and no other set has that digest.
func (l *reloading) traces(t *testing.T) {
	t.Helper()
	client, key := &http.Client{Timeout: 10 * time.Second}, l.r.AdminKey(t)
	digests := map[int]string{}
	for i := 0; i < len(l.ids); i += max(1, len(l.ids) / *reloadTraces) {
		id := l.ids[i]
		var m struct {
			Tags   []string
			Events []struct {
				Accepted *struct {
					Policy []struct{ Package, Digest string }
				}
			}
		}
		if err := json.Unmarshal(getJSON(t, client, l.r.HTTP+"/v1/messages/"+id, key), &m); err != nil {
			t.Fatal(err)
		}
		set := l.setOf[id]
		for _, c := range "srm" {
			if tag := fmt.Sprintf("%c-%d", c, set); !slices.Contains(m.Tags, tag) {
				t.Errorf("%s of set %d has tags %v", id, set, m.Tags)
			}
		}
		stages := map[string]bool{}
		for _, ruling := range m.Events[0].Accepted.Policy {
			stages[ruling.Package] = true
			if digests[set] == "" {
				digests[set] = ruling.Digest
			}
			if ruling.Digest != digests[set] {
				t.Errorf("%s: %s of set %d was decided by %s, the set is %s", id, ruling.Package, set, ruling.Digest, digests[set])
			}
		}
		if len(stages) != 3 || len(m.Tags) != 3 {
			t.Errorf("%s: stages %v, tags %v", id, stages, m.Tags)
		}
	}
	sets := map[string]int{}
	for set, digest := range digests {
		if sets[digest] != 0 {
			t.Errorf("sets %d and %d have one digest", set, sets[digest])
		}
		sets[digest] = set
	}
}

func getJSON(t *testing.T, client *http.Client, url, key string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %v %s", url, resp.StatusCode, err, b)
	}
	return b
}
