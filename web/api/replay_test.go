package api_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"behalf/internal/keyring"
	"behalf/internal/throttle"
	"behalf/policy"
	"behalf/policy/journal"
	"behalf/relay/replay"
	"behalf/web"
	"behalf/web/api"
)

// TestReplayRefusals: what cannot be replayed is answered with what to do.
func TestReplayRefusals(t *testing.T) {
	w := newWorld(t)
	for name, tt := range map[string]struct {
		query, body string
		status      int
		text        string
	}{
		"nothing recorded":   {"", `{"active":true}`, http.StatusConflict, "retention.policy_inputs"},
		"nothing waits":      {"", "", http.StatusUnprocessableEntity, "no set waits"},
		"does not compile":   {"", `{"a.rego":"package behalf.submission.message\ndeny contains x if input.nothing"}`, http.StatusUnprocessableEntity, "a.rego"},
		"no files":           {"", `{"a.rego":1}`, http.StatusUnprocessableEntity, "want the text"},
		"no JSON":            {"", `x`, http.StatusUnprocessableEntity, "JSON object"},
		"outside the folder": {"", `{"../a.rego":"package x"}`, http.StatusUnprocessableEntity, "no path"},
		"bad time":           {"?since=yesterday", `{"active":true}`, http.StatusUnprocessableEntity, "24h"},
		"no time between":    {"?since=1h&until=2h", `{"active":true}`, http.StatusUnprocessableEntity, "after since"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.server.URL+"/v1/policies/replay"+tt.query, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+adminKey)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.status || !strings.Contains(string(b), tt.text) {
			t.Errorf("%s: %d %s", name, resp.StatusCode, b)
		}
	}
}

// TestReplayForTheGate: a replay that saw nothing, or one tenant alone, does not
// open the gate.
func TestReplayForTheGate(t *testing.T) {
	w := newWorld(t)
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "a.rego"), []byte("package behalf.submission.sender\n\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := policy.Options{Path: dir, Gate: true, Keep: filepath.Join(t.TempDir(), "policy")}
	engine := func() *policy.Engine {
		e, err := policy.New(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	write("tag contains {\"rule\": \"r\", \"value\": \"one\"}\n")
	engine()
	write("tag contains {\"rule\": \"r\", \"value\": \"two\"}\n")
	e := engine()
	waits, ok := e.Pending()
	if !ok {
		t.Fatal("no set waits")
	}
	keys, err := keyring.New()
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.TempDir(), keys, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	r := web.NewRouter(log)
	api.Mount(r, api.Parts{Directory: w.directory, Spool: w.spool, Store: w.store, Intake: w.intake, Dispatcher: w.dispatch, Policy: e, Replay: &replay.Runner{Journal: j},
		Auth: &web.Auth{AdminKey: adminKey, Intake: w.intake, Throttle: throttle.New(), Log: log}, MaxSize: maxSize, Log: log}, "test")
	server := httptest.NewServer(r)
	defer server.Close()
	post := func(path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+adminKey)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	accept := func(when string, status int) {
		t.Helper()
		if got, body := post("/v1/policies/accept", `{"digest":"`+waits.Digest()+`"}`); got != status {
			t.Errorf("%s: %d %s", when, got, body)
		}
	}
	replays := func(query string) {
		t.Helper()
		if got, body := post("/v1/policies/replay"+query, ""); got != http.StatusOK {
			t.Fatalf("%d %s", got, body)
		}
	}
	replays("")
	accept("with an empty record", http.StatusConflict)

	in := &policy.SenderInput{Time: time.Now().UnixNano(), Session: &policy.Session{}, Tenant: &policy.Tenant{ID: 1, Name: "acme"}, Credential: &policy.Credential{}}
	d, err := e.Sender(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	record := j.Begin(journal.Transaction{Time: time.Now(), Digest: e.Pin().Digest(), Needs: e.Needs()})
	record.Sender(in, &d, nil)
	record.End(journal.End{})
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, body := post("/v1/policies/replay?tenant=acme", ""); strings.Contains(body, `"decisions":1`) {
			break
		} else if time.Now().After(until) {
			t.Fatalf("nothing is recorded: %s", body)
		}
	}
	accept("with a replay of one tenant", http.StatusConflict)
	replays("?tenant=nobody")
	accept("with a replay of nobody", http.StatusConflict)
	replays("")
	accept("with a replay of one decision", http.StatusOK)
	if a := e.Status().History[0]; a.Review == nil || a.Review.Asked != 1 || a.Review.Differing != 1 {
		t.Errorf("the history tells %+v", a)
	}
}
