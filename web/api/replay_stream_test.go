package api_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
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

// recorded is a server with a record of so many sender questions, all of which
// the set in force accepts.
func recorded(t *testing.T, questions int) *httptest.Server {
	t.Helper()
	w, log := newWorld(t), slog.New(slog.DiscardHandler)
	keys, err := keyring.New()
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.TempDir(), keys, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	e, err := rules()
	if err != nil {
		t.Fatal(err)
	}
	for n := range questions {
		in := &policy.SenderInput{Time: time.Now().UnixNano(), Session: &policy.Session{}, Tenant: &policy.Tenant{ID: 1, Name: "acme"}, Credential: &policy.Credential{},
			Usage: &policy.Usage{}, Envelope: policy.Envelope{From: fmt.Sprintf("app%d@acme.example", n)}}
		d, err := e.Sender(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		r := j.Begin(journal.Transaction{Time: time.Now(), Digest: d.Digest, Needs: e.Needs()})
		r.Sender(in, &d, nil)
		r.End(journal.End{})
	}
	router := web.NewRouter(log)
	api.Mount(router, api.Parts{Directory: w.directory, Spool: w.spool, Store: w.store, Intake: w.intake, Dispatcher: w.dispatch, Policy: e, Replay: &replay.Runner{Journal: j},
		Auth: &web.Auth{AdminKey: adminKey, Intake: w.intake, Throttle: throttle.New(), Log: log}, MaxSize: maxSize, Log: log}, "test")
	server := httptest.NewServer(router)
	t.Cleanup(server.Close)
	return server
}

// denying is a set that refuses every sender.
const denying = "package behalf.submission.sender\n\ndeny contains {\"rule\": \"all\", \"reason\": \"none of you\"}\n"

func tarred(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if w.Close() != nil || z.Close() != nil {
		t.Fatal("the archive could not be packed")
	}
	return b.Bytes()
}

// askReplay posts a set; the caller closes the answer.
func askReplay(ctx context.Context, t *testing.T, server *httptest.Server, kind, accept string, body []byte) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/v1/policies/replay", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Authorization": {"Bearer " + adminKey}, "Content-Type": {kind}, "Accept": {accept}}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// TestReplayReport: a set comes as JSON or as an archive, and one report goes
// back.
func TestReplayReport(t *testing.T) {
	server := recorded(t, 5)
	named, err := json.Marshal(map[string]string{"a.rego": denying})
	if err != nil {
		t.Fatal(err)
	}
	archive := tarred(t, map[string]string{"./a.rego": denying})
	for _, tt := range []struct {
		name, kind string
		body       []byte
		status     int
		differing  int
	}{
		{"JSON", "application/json", named, 200, 5},
		{"an archive", "application/x-tar+gzip", archive, 200, 5},
		{"an archive by another name", "application/gzip", archive, 200, 5},
		{"the set in force", "application/json", []byte(`{"active":true}`), 200, 0},
		{"an archive that is cut", "application/gzip", archive[:len(archive)/2], 422, 0},
		{"a file outside", "application/gzip", tarred(t, map[string]string{"../a.rego": denying}), 422, 0},
		{"no policies", "application/gzip", tarred(t, nil), 422, 0},
	} {
		resp := askReplay(t.Context(), t, server, tt.kind, "application/json", tt.body)
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != tt.status {
			t.Errorf("%s: %d %s, %v", tt.name, resp.StatusCode, b, err)
			continue
		}
		var report replay.Report
		if tt.status == 200 && (json.Unmarshal(b, &report) != nil || report.Decisions != 5 || report.Differing != tt.differing || resp.Header.Get("Content-Type") != "application/json") {
			t.Errorf("%s: %s", tt.name, b)
		}
	}
}

// TestReplayLines: every difference is told as it is found, progress between,
// and the report at the end.
func TestReplayLines(t *testing.T) {
	server := recorded(t, 50)
	resp := askReplay(t.Context(), t, server, "application/gzip", "application/x-ndjson", tarred(t, map[string]string{"a.rego": denying}))
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || got != "application/x-ndjson" {
		t.Fatalf("%d %s", resp.StatusCode, got)
	}
	var last api.ReplayLine
	differing, progress := 0, 0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if last.Report != nil {
			t.Errorf("after the report: %s", lines.Bytes())
		}
		last = api.ReplayLine{}
		if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
			t.Fatalf("%v in %s", err, lines.Bytes())
		}
		if last.Difference != nil {
			differing++
			if want := fmt.Sprintf("app%d@acme.example", differing-1); last.Difference.From != want {
				t.Errorf("difference %d is of %s, want %s", differing, last.Difference.From, want)
			}
		}
		if last.Progress != nil {
			progress++
		}
	}
	if differing != 50 || progress == 0 || last.Report == nil || last.Report.Differing != 50 || last.Error != "" {
		t.Errorf("%d differences, %d of progress, at last %+v", differing, progress, last)
	}
}

// TestReplayEnds: a client that goes away ends its replay, which makes room for
// the next.
func TestReplayEnds(t *testing.T) {
	server := recorded(t, 20_000) // which takes a while
	archive := tarred(t, map[string]string{"a.rego": denying})
	ctx, leave := context.WithCancel(t.Context())
	resp := askReplay(ctx, t, server, "application/gzip", "application/x-ndjson", archive)
	if _, err := bufio.NewReader(resp.Body).ReadBytes('\n'); err != nil {
		t.Fatal(err)
	}
	beside := askReplay(t.Context(), t, server, "application/json", "application/json", []byte(`{"active":true}`))
	beside.Body.Close()
	if beside.StatusCode != http.StatusConflict {
		t.Errorf("beside another replay: %d", beside.StatusCode)
	}
	leave()
	resp.Body.Close()
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		next := askReplay(t.Context(), t, server, "application/json", "application/x-ndjson", []byte(`{"active":true}`))
		next.Body.Close()
		if next.StatusCode == http.StatusOK {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("after the client went away: %d", next.StatusCode)
		}
	}
}
