package policy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
)

// made is a bundle with these files, as "opa build" would make it, signed when a
// key is given.
func made(t testing.TB, roots []string, data map[string]any, rego string, signing *bundle.SigningConfig) []byte {
	t.Helper()
	if data == nil {
		data = map[string]any{}
	}
	b := bundle.Bundle{Manifest: bundle.Manifest{Revision: "r1", Roots: &roots}, Data: data}
	if rego != "" {
		m, err := ast.ParseModuleWithOpts("p.rego", rego, ast.ParserOptions{RegoVersion: ast.RegoV1})
		if err != nil {
			m = ast.MustParseModule("package x")
		}
		b.Modules = []bundle.ModuleFile{{URL: "/p.rego", Path: "/p.rego", RelativePath: "/p.rego", Raw: []byte(rego), Parsed: m}}
	}
	if signing != nil {
		if err := b.GenerateSignature(signing, "k", false); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := bundle.NewWriter(&out).DisableFormat(true).Write(b); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// pair makes a key of its algorithm, as PEM: private and public.
func keyPair(t *testing.T, algorithm string) (private, public string) {
	t.Helper()
	block := func(kind string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	if algorithm == "RS256" {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
		return block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(k), nil), block("PUBLIC KEY", der, err)
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own, err := x509.MarshalECPrivateKey(k)
	private = block("EC PRIVATE KEY", own, err)
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	return private, block("PUBLIC KEY", der, err)
}

// server serves bundles by path, with ETags.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	bundles  map[string][]byte
	broken   bool
	requests []*http.Request
}

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{bundles: map[string][]byte{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
	b, ok := s.bundles[r.URL.Path]
	etag := fmt.Sprintf(`"%x"`, len(b)*31+int(crc(b)))
	switch {
	case s.broken || !ok:
		http.Error(w, "no", http.StatusServiceUnavailable)
	case r.Header.Get("If-None-Match") == etag:
		w.WriteHeader(http.StatusNotModified)
	default:
		w.Header().Set("ETag", etag)
		_, _ = w.Write(b)
	}
}

func crc(b []byte) (n uint32) {
	for _, c := range b {
		n = n*31 + uint32(c)
	}
	return n
}

func (s *server) put(name string, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bundles["/bundles/"+name] = b
}

func (s *server) options(names ...string) Options {
	o := Options{Bundles: Bundles{Services: map[string]Service{"s": {URL: s.URL, Token: "secret", Headers: map[string]string{"X-Team": "mail"}}}, Bundles: map[string]Bundle{}}}
	for _, n := range names {
		o.Bundles.Bundles[n] = Bundle{Service: "s", MinDelay: 10 * time.Millisecond, MaxDelay: 20 * time.Millisecond}
	}
	return o
}

// running runs an engine until the test ends.
func running(t *testing.T, o Options) *Engine {
	t.Helper()
	e, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { e.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return e
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

var submission = []string{"behalf/submission"}

func deny(reason string) string {
	return sender + fmt.Sprintf("deny contains {\"rule\": \"r\", \"reason\": %q}\n", reason)
}

// TestBundle: a bundle is fetched, changed, refused, and out of reach.
func TestBundle(t *testing.T) {
	s := serve(t)
	s.put("b", made(t, submission, nil, deny("one"), nil))
	e := running(t, s.options("b"))
	if says(t, e) != "one" {
		t.Error("the first bundle is not in force")
	}
	if d, _ := e.Sender(t.Context(), &SenderInput{}); d.Rules[0] != "p.rego:r" {
		t.Errorf("rules %v", d.Rules)
	}
	s.put("b", made(t, submission, nil, deny("two"), nil))
	eventually(t, "the changed bundle is not in force", func() bool { return says(t, e) == "two" })
	s.put("b", made(t, submission, nil, sender+"deny contains {\"rule\": \"r\", \"reason\": input.nothing}\n", nil))
	eventually(t, "a bundle that does not compile does not show", func() bool {
		st := e.Status()
		return st.Err != nil && st.Bundles[0].Refused
	})
	if says(t, e) != "two" {
		t.Error("the last good bundle is not in force")
	}
	s.mu.Lock()
	s.broken = true
	s.mu.Unlock()
	eventually(t, "the server that is down does not show", func() bool { return e.Status().Bundles[0].Error != "" && !e.Status().Bundles[0].Refused })
	s.mu.Lock()
	s.broken = false
	s.mu.Unlock()
	s.put("b", made(t, submission, nil, deny("four"), nil))
	eventually(t, "the repaired bundle is not in force", func() bool { return says(t, e) == "four" && e.Status().Err == nil })
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.requests[0]
	if r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get("X-Team") != "mail" || r.Header.Get("Prefer") != "modes=snapshot" {
		t.Errorf("request %v", r.Header)
	}
}

// TestBundleSignatures: with keys, only what one of them signed is taken.
func TestBundleSignatures(t *testing.T) {
	for _, algorithm := range []string{"RS256", "ES256", "HS256"} {
		private, public := "a secret", "a secret"
		if algorithm != "HS256" {
			private, public = keyPair(t, algorithm)
		}
		keys := map[string]Key{"k": {Algorithm: algorithm, Key: public}}
		good := made(t, submission, nil, deny("x"), bundle.NewSigningConfig(private, algorithm, ""))
		limit := int64(maxPacked)
		if _, err := readBundle(good, Bundle{SizeLimit: limit}, keys); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
		other, _ := keyPair(t, "ES256")
		for name, bad := range map[string][]byte{
			"unsigned":         made(t, submission, nil, deny("x"), nil),
			"another's":        made(t, submission, nil, deny("x"), bundle.NewSigningConfig(other, "ES256", "")),
			"changed":          repacked(t, good, "p.rego", deny("y")),
			"with a file more": repacked(t, good, "q.rego", deny("y")),
		} {
			if _, err := readBundle(bad, Bundle{SizeLimit: limit}, keys); err == nil {
				t.Errorf("%s: a bundle that is %s was taken", algorithm, name)
			}
		}
		if _, err := readBundle(good, Bundle{SizeLimit: limit}, nil); err == nil {
			t.Errorf("%s: signed, and nobody can tell by whom", algorithm)
		}
		if _, err := readBundle(good, Bundle{SizeLimit: limit, Scope: "write"}, keys); err == nil {
			t.Errorf("%s: a signature of another scope was taken", algorithm)
		}
	}
}

// repacked is a bundle with one file replaced or added.
func repacked(t *testing.T, raw []byte, name, text string) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	w := tar.NewWriter(zw)
	put := func(name string, b []byte) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(b)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(b)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		b, _ := io.ReadAll(r)
		if strings.TrimPrefix(h.Name, "/") != name {
			put(h.Name, b)
		}
	}
	put("/"+name, []byte(text))
	_, _ = w.Close(), zw.Close()
	return out.Bytes()
}

// TestBundlesBounds: what is too big, or would become so, is refused before it is
// kept.
func TestBundleBounds(t *testing.T) {
	bomb := repacked(t, made(t, submission, nil, deny("x"), nil), "data.json", strings.Repeat(" ", 8<<20)+"{}")
	if len(bomb) > 1<<16 {
		t.Fatalf("%d bytes", len(bomb))
	}
	for name, raw := range map[string][]byte{"bomb": bomb, "garbage": []byte("garbage"), "nothing": nil, "cut": bomb[:len(bomb)/2]} {
		if _, err := readBundle(raw, Bundle{SizeLimit: 1 << 20}, nil); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	s := serve(t)
	s.put("b", bytes.Repeat([]byte("x"), 2000))
	o := s.options("b")
	b := o.Bundles.Bundles["b"]
	b.SizeLimit = 1000
	o.Bundles.Bundles["b"] = b
	if _, err := New(t.Context(), o); err == nil || !strings.Contains(err.Error(), "1000") {
		t.Errorf("error %v", err)
	}
}

// TestBundleSparse: what a bundle claims to hold counts, and not what it has. A
// file of holes would be unpacked before anybody looked at a signature.
func TestBundleSparse(t *testing.T) {
	packed := func(headers ...*tar.Header) []byte {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		w := tar.NewWriter(z)
		for _, h := range headers {
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(make([]byte, h.Size)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(w.Close(), z.Close()); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	// The writer makes no sparse files, but records that can be made into theirs.
	holes := func(size string) []byte {
		raw := packed(&tar.Header{Name: "data.json", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"VENDOR.x": strings.Repeat("x", 1000)}})
		return sparse(t, raw, map[string]string{"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.numblocks": "1", "GNU.sparse.map": size + ",0", "GNU.sparse.size": size})
	}
	for name, b := range map[string][]byte{"a gibibyte of holes": holes("1073741824"), "a few holes": holes("512")} {
		if err := measure(b, maxPacked); err == nil {
			t.Errorf("%s: a sparse file was taken", name)
		}
	}
	if err := measure(packed(&tar.Header{Name: "a.rego", Typeflag: tar.TypeReg, Size: 600}, &tar.Header{Name: "b.rego", Typeflag: tar.TypeReg, Size: 600}), 1000); err == nil {
		t.Error("two files that are too big together were taken")
	}
}

// sparse puts PAX records in place of those that an archive has for its file.
func sparse(t *testing.T, raw []byte, records map[string]string) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	for _, k := range sortedKeys(records) {
		size := len(k) + len(records[k]) + len(" =\n")
		for n := size; ; n++ {
			if line := fmt.Sprintf("%d %s=%s\n", n, k, records[k]); len(line) == n {
				text = append(text, line...)
				break
			}
		}
	}
	body := b[512:]
	end := bytes.IndexByte(body, 0)
	rest := end - len(text) // what is left over is a record that says nothing
	text = append(text, fmt.Sprintf("%d x=%s\n", rest, strings.Repeat("x", rest-len(fmt.Sprint(rest))-len(" x=\n")))...)
	copy(body, text)
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	_, _ = zw.Write(b)
	_ = zw.Close()
	return out.Bytes()
}

// TestStatusWhileCompiling: whoever asks how things are does not wait for a set
// that is being compiled and kept.
func TestStatusWhileCompiling(t *testing.T) {
	s := serve(t)
	s.put("b", made(t, submission, nil, deny("one"), nil))
	e := running(t, s.options("b"))
	e.changing.Lock() // another set is coming into force
	s.put("b", made(t, submission, nil, deny("two"), nil))
	eventually(t, "nobody takes the changed bundle", func() bool {
		if e.bundles.mu.TryLock() {
			e.bundles.mu.Unlock()
			return false
		}
		return true
	})
	told := make(chan Status)
	go func() { told <- e.Status() }()
	select {
	case st := <-told:
		if len(st.Bundles) != 1 {
			t.Errorf("%+v", st)
		}
	case <-time.After(5 * time.Second):
		t.Error("the status waits")
		e.changing.Unlock()
		<-told
		return
	}
	e.changing.Unlock()
	eventually(t, "the changed bundle is not in force", func() bool { return says(t, e) == "two" })
}

// TestBundlesJoin: several bundles make one set, unless they own the same.
func TestBundlesJoin(t *testing.T) {
	s := serve(t)
	s.put("rules", made(t, submission, nil, sender+"tag contains {\"rule\": \"r\", \"value\": data.lists.name}\n", nil))
	s.put("lists", made(t, []string{"lists"}, map[string]any{"lists": map[string]any{"name": "one"}}, "", nil))
	e := running(t, s.options("rules", "lists"))
	if d, err := e.Sender(t.Context(), &SenderInput{}); err != nil || d.Tags[0] != "one" || d.Rules[0] != "rules/p.rego:r" {
		t.Errorf("%+v, %v", d, err)
	}
	s.put("lists", made(t, []string{"lists"}, map[string]any{"lists": map[string]any{"name": "two"}}, "", nil))
	eventually(t, "the changed data is not in force", func() bool { d, _ := e.Sender(t.Context(), &SenderInput{}); return d.Tags[0] == "two" })
	if c := e.Status().History[0].Changes; len(c.Data) != 1 || c.Data[0].Path != "lists.name" {
		t.Errorf("changes %+v", c)
	}
	s.put("lists", made(t, []string{"behalf"}, nil, "", nil))
	eventually(t, "roots that overlap are not refused", func() bool { st := e.Status(); return st.Err != nil && strings.Contains(st.Err.Error(), "both own") })
}

// TestBundlePersists: what was fetched once makes a start without the server
// possible.
func TestBundlePersists(t *testing.T) {
	s := serve(t)
	s.put("b", made(t, submission, nil, deny("one"), nil))
	o := s.options("b")
	o.Keep = filepath.Join(t.TempDir(), "policy")
	b := o.Bundles.Bundles["b"]
	b.Persist = true
	o.Bundles.Bundles["b"] = b
	if _, err := New(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	s.Close()
	e, err := New(t.Context(), o)
	if err != nil || says(t, e) != "one" {
		t.Errorf("without the server: %v", err)
	}
	b.Persist = false
	o.Bundles.Bundles["b"] = b
	if _, err := New(t.Context(), o); err == nil {
		t.Error("started with no policy at all")
	}
}

// TestBundleRedirects: a token goes to no other host.
func TestBundleRedirects(t *testing.T) {
	elsewhere := serve(t)
	elsewhere.put("b", made(t, submission, nil, deny("x"), nil))
	s := httptest.NewServer(http.RedirectHandler(elsewhere.URL+"/bundles/b", http.StatusFound))
	defer s.Close()
	o := elsewhere.options("b")
	o.Bundles.Services["s"] = Service{URL: s.URL, Token: "secret"}
	if _, err := New(t.Context(), o); err == nil || len(elsewhere.requests) > 0 {
		t.Errorf("%v, %d requests", err, len(elsewhere.requests))
	}
}
