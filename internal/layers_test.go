// Package internal_test holds what is true of the module as a whole.
package internal_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// module is the path that the packages of this module begin with.
const module = "behalf/"

// pkg is what "go list -json" says of a package.
type pkg struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

// layer is the layer of a package, counted from the bottom; -1 for a package
// that docs/hacking.md does not place. Imports go downwards only. The second
// level of relay and of tenant is a layer of its own: a child may import its
// parent, and never the other way round.
func layer(path string) int {
	if path == "policy/plan" {
		return 10 // runs rules; knows nothing of what they are about
	}
	top, child, _ := strings.Cut(path, "/")
	switch top {
	case "mail":
		if child == "" {
			return 0
		}
		return 10
	case "internal":
		return 10
	case "policies":
		return 20 // the default rules: files, embedded; only its tests import anything
	case "tenant", "policy", "spool", "limit":
		if child != "" && top == "spool" {
			return 31
		}
		if child != "" {
			return 21
		}
		return 20
	case "upstream":
		if child != "" {
			return 31
		}
		return 30
	case "relay":
		switch {
		case child == "":
			return 40
		case child == "smtpd":
			return 50
		}
		return 41
	case "web":
		if child != "" {
			return 51
		}
		return 50
	case "cmd":
		return 60
	}
	return -1
}

// sideways lists the imports inside a layer that are allowed, with the reason.
var sideways = map[string][]string{
	// Pure packages about messages stand on header and scan, which hold the
	// parsers; none of those knows a package above it.
	"mail/compose": {"mail/header"},
	"mail/dsn":     {"mail/header"},
	"mail/scan":    {"mail/header"},
	"mail/render":  {"mail/header", "mail/scan", "mail/sign"},
	// An engine and its conformance suite import the interface they are about.
	"internal/kv/badger":  {"internal/kv", "internal/kv/journal", "internal/fsync"}, // the journal has no other use
	"internal/kv/journal": {"internal/kv", "internal/fsync"},
	"internal/kv/mem":     {"internal/kv"},
	"internal/kv/kvtest":  {"internal/kv"},
	"internal/blob/files": {"internal/blob", "internal/fsync"},
	"internal/blob/mem":   {"internal/blob"},
	// Who keeps files syncs them.
	"internal/keyring":       {"internal/fsync"},
	"internal/blob/blobtest": {"internal/blob"},
}

// TestImportsGoDownwards keeps the packages in their layers: whoever reads one
// needs to know only those below it.
func TestImportsGoDownwards(t *testing.T) {
	for _, p := range list(t) {
		from, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours || from == "internal" || strings.HasPrefix(from, "docs/") || strings.HasPrefix(from, "test/") {
			continue // packages of tests only, which may see everything
		}
		if layer(from) < 0 {
			t.Errorf("%s has no layer; give it one in docs/hacking.md and here", from)
			continue
		}
		for _, i := range p.Imports {
			to, ours := strings.CutPrefix(i, module)
			if !ours || allowed(from, to) {
				continue
			}
			t.Errorf("%s (layer %d) imports %s (layer %d)", from, layer(from), to, layer(to))
		}
	}
}

// allowed reports whether from may import to.
func allowed(from, to string) bool {
	if strings.HasPrefix(to, "internal/testkit/") {
		// Peers for tests. A conformance suite is a package, not a test file.
		return strings.HasSuffix(from, "test") || strings.HasPrefix(from, "internal/testkit/")
	}
	if layer(to) < layer(from) {
		return true
	}
	return slices.Contains(sideways[from], to)
}

// fence says which packages may import a module's packages: in their code, and
// in their tests besides.
type fence struct {
	path        string
	code, tests []string
}

// fences keep libraries with large surfaces where they can be replaced.
var fences = []fence{
	{"github.com/dgraph-io/badger", []string{"internal/kv/badger"}, nil},
	{"github.com/open-policy-agent/opa", []string{"policy"}, []string{"policies"}},
	{"github.com/emersion/go-smtp", []string{"internal/testkit"}, []string{"relay/smtpd", "upstream", "internal/smtpclient", "cmd"}},
	{"github.com/emersion/go-sasl", []string{"internal/testkit"}, []string{"relay/smtpd", "upstream", "internal/smtpclient", "cmd"}},
	{"github.com/emersion/go-message", []string{"mail"}, []string{"cmd"}},
	{"github.com/emersion/go-msgauth", []string{"mail/verify", "internal/testkit"}, []string{"mail", "cmd", "relay", "upstream"}},
	{"github.com/miekg/dns", []string{"internal/dnsx", "internal/testkit"}, []string{"tenant/dnscheck", "cmd", "upstream"}},
	{"github.com/tink-crypto/tink-go", []string{"internal/keyring"}, nil},
	{"github.com/danielgtaylor/huma", []string{"web/api"}, nil},
	{"github.com/go-chi/chi", []string{"web", "cmd"}, nil},
	{"github.com/spf13/cobra", []string{"cmd"}, nil},
	// A program that imports it is not static any more.
	{"github.com/ebitengine/purego", []string{"internal/libcrypto"}, nil},
	{"behalf/internal/libcrypto", []string{"cmd/behalf-rsa"}, []string{"mail/sign/aside", "cmd/behalf"}},
}

// TestLibrariesStayBehindTheirFences keeps each library in the one package
// that turns it into words of ours.
func TestLibrariesStayBehindTheirFences(t *testing.T) {
	for _, p := range list(t) {
		from, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours || strings.HasPrefix(from, "test/") {
			continue
		}
		for _, f := range fences {
			if !under(from, f.code) && slices.ContainsFunc(p.Imports, f.holds) {
				t.Errorf("%s imports %s; only %v may", from, f.path, f.code)
			}
			if !under(from, slices.Concat(f.code, f.tests)) && (slices.ContainsFunc(p.TestImports, f.holds) || slices.ContainsFunc(p.XTestImports, f.holds)) {
				t.Errorf("a test of %s imports %s; only those of %v may", from, f.path, slices.Concat(f.code, f.tests))
			}
		}
	}
}

func (f fence) holds(path string) bool { return strings.HasPrefix(path+"/", f.path+"/") }

// under reports whether path is one of the packages or below one.
func under(path string, packages []string) bool {
	return slices.ContainsFunc(packages, func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") })
}

// list asks the go command for all packages of the module.
func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			t.Fatalf("go list: %v: %s", err, failed.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 20 {
		t.Fatalf("go list found %d packages only", len(all))
	}
	return all
}

// TestTheRuleItself shows that the rule refuses what it is there to refuse.
func TestTheRuleItself(t *testing.T) {
	for _, tt := range []struct {
		from, to string
		want     bool
	}{
		{"relay", "spool", true},
		{"relay/dispatch", "relay", true},
		{"relay", "relay/dispatch", false},
		{"relay/smtpd", "relay/dispatch", true}, // a door is above dispatch
		{"relay/dispatch", "relay/outcome", false},
		{"mail/render", "mail/sign", true},
		{"mail/sign", "mail/render", false},
		{"mail", "mail/header", false},
		{"policy", "tenant", false},
		{"upstream/mx", "upstream/smarthost", false},
		{"upstream/upstreamtest", "internal/testkit/smtppeer", true},
		{"spool", "internal/testkit/smtppeer", false},
		{"internal/config", "tenant", false},
	} {
		if got := allowed(tt.from, tt.to); got != tt.want {
			t.Errorf("%s importing %s: allowed %v, want %v", tt.from, tt.to, got, tt.want)
		}
	}
}
