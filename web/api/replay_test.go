package api_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
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
