package main_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"behalf/internal/testkit/lab"
)

const bundleKey = "bundle-key-0123456789abcdefghijklmnopqrstuvwxyz"

// signedBundle is a bundle in OPA's format, signed by HS256 with a key.
func signedBundle(t *testing.T, key string, files map[string]string) []byte {
	t.Helper()
	type hashed struct {
		Name      string `json:"name"`
		Hash      string `json:"hash"`
		Algorithm string `json:"algorithm"`
	}
	var hashes []hashed
	for name, text := range files {
		sum := sha256.Sum256([]byte(text))
		hashes = append(hashes, hashed{name, hex.EncodeToString(sum[:]), "SHA-256"})
	}
	claims, err := json.Marshal(map[string]any{"files": hashes, "scope": "write", "keyid": "release"})
	if err != nil {
		t.Fatal(err)
	}
	raw := base64.RawURLEncoding
	token := raw.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT","kid":"release"}`)) + "." + raw.EncodeToString(claims)
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(token))
	token += "." + raw.EncodeToString(mac.Sum(nil))

	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	put := func(name, text string) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	put(".signatures.json", fmt.Sprintf(`{"signatures":[%q]}`, token))
	for name, text := range files {
		put(name, text)
	}
	if w.Close() != nil || z.Close() != nil {
		t.Fatal("the bundle could not be packed")
	}
	return b.Bytes()
}

// Policies come as signed bundles; one with a wrong signature is refused and the
// last good one stays in force; one that was kept starts without the server.
func TestE2EPolicyBundle(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, nil)
	var bundle atomic.Pointer[[]byte]
	serve := func(b []byte) { bundle.Store(&b) }
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b := *bundle.Load()
		etag := fmt.Sprintf(`"%x"`, sha256.Sum256(b))
		rw.Header().Set("ETag", etag)
		switch {
		case r.URL.Path != "/bundles/mail":
			http.NotFound(rw, r)
		case r.Header.Get("If-None-Match") == etag:
			rw.WriteHeader(http.StatusNotModified)
		default:
			_, _ = rw.Write(b)
		}
	}))
	defer server.Close()
	open := map[string]string{"a.rego": allowAll}
	serve(signedBundle(t, bundleKey, open))
	r := w.Relay(t, lab.RelayOptions{Binary: binary(t), Resources: viaTenants("acme"), Config: `policy:
  services: { control: { url: "` + server.URL + `" } }
  bundles: { mail: { service: control, persist: true, polling: { min_delay_seconds: 1, max_delay_seconds: 1 }, signing: { keyid: release, scope: write } } }
  keys: { release: { algorithm: HS256, key: "` + bundleKey + `" } }
`})
	answers := func(code int) func() bool {
		return func() bool { return submitAs(t, r, "acme", "never again")[0].code == code }
	}
	if !answers(250)() {
		t.Error("the first bundle is not in force")
	}
	closed := map[string]string{"a.rego": allowAll, "b.rego": never}
	serve(signedBundle(t, "another key, which nobody here has heard of", closed))
	lab.Until(t, soon, "/readyz to tell of the wrong signature", func() bool {
		code, body := r.Ready()
		return code == http.StatusServiceUnavailable && strings.Contains(body, "policy")
	})
	if !answers(250)() {
		t.Error("a bundle with a wrong signature is in force")
	}
	if !strings.Contains(r.Metrics(t), "behalf_policy_stale 1") {
		t.Error("behalf_policy_stale does not tell of it")
	}
	serve(signedBundle(t, bundleKey, closed))
	lab.Until(t, soon, "the second bundle to be in force", answers(550))
	lab.Until(t, soon, "/readyz to be well", func() bool { code, _ := r.Ready(); return code == http.StatusOK })
	server.Close()
	lab.Until(t, soon, "the status to tell of the outage", func() bool {
		st := policyStatus(t, r)
		return len(st.Bundles) == 1 && st.Bundles[0].Error != "" && st.Error == "" && st.Path == "" && !st.Default
	})
	if code, body := r.Ready(); code != http.StatusOK || !strings.Contains(r.Metrics(t), "behalf_policy_stale 0") {
		t.Errorf("an outage of the server makes the relay unready: %s", body)
	}
	if out := r.MustCLI(t, "policy", "status"); !strings.Contains(out, "from bundles") || !strings.Contains(out, "bundle    mail") {
		t.Errorf("the status is\n%s", out)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	r.Start(t)
	if !answers(550)() {
		t.Error("the bundle that was kept is not in force after a start without the server")
	}
}
