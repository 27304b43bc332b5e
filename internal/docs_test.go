package internal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"behalf/internal/config"
	"behalf/internal/duration"
	"behalf/mail"
	"behalf/policies"
	"behalf/policy"
)

var update = flag.Bool("update", false, "rewrite the generated parts of docs/")

const root = ".."

// TestSampleConfigsLoad keeps every sample true to the schema.
func TestSampleConfigsLoad(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "configs", "*.yaml"))
	if err != nil || len(files) < 2 {
		t.Fatalf("samples %v, %v", files, err)
	}
	nested, err := filepath.Glob(filepath.Join(root, "configs", "*", "behalf.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, nested...)
	for _, f := range files {
		if _, err := config.Load(f, nil); err != nil {
			t.Errorf("%v", err)
		}
	}
	dev, err := config.Load(filepath.Join(root, "configs", "development.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	none, err := config.Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	// The sample says that it is the same as no file at all, but for the log
	// and for where it lies.
	dev.Log, none.Log = config.Log{}, config.Log{}
	a, b := asText(t, dev, filepath.Join(root, "configs")), asText(t, none, ".")
	if a != b {
		t.Errorf("configs/development.yaml is not what runs without a file:\n%s\nwithout:\n%s", a, b)
	}
}

func asText(t *testing.T, c *config.Config, dir string) string {
	t.Helper()
	abs, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), abs+"/", "")
}

// TestConfigTable keeps the table of keys in docs/operations.md.
func TestConfigTable(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(config.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "minimal.yaml")
	minimal := "hostname: relay.platform.example\nlisten: { http: 127.0.0.1:8025 }\n"
	if err := os.WriteFile(file, []byte(minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	var defaults map[string]any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(asText(t, c, dir), dir+"/", "")), &defaults); err != nil {
		t.Fatal(err)
	}
	sched := mail.DefaultSchedule()
	d := defaults["delivery"].(map[string]any)
	d["retry"], d["retry_connect"] = spans(sched.Retry), spans(sched.RetryConnect)
	delete(defaults, "hostname") // given above, and no defaults
	delete(defaults, "listen")
	var b strings.Builder
	b.WriteString("| key | default | environment variable | meaning |\n| --- | --- | --- | --- |\n")
	keyRows(&b, schema, schema, nil, true, defaults)
	generated(t, "docs/operations.md", "config", b.String())
}

func spans(ds []time.Duration) string {
	var out []string
	for _, d := range ds {
		out = append(out, short(d.String()))
	}
	return strings.Join(out, ", ")
}

// short writes 96h0m0s as 96h, and 168h0m0s as 7d.
func short(s string) string {
	d, err := time.ParseDuration(s)
	if err != nil || d == 0 {
		return s
	}
	if day := 24 * time.Hour; d%day == 0 && d > 4*day {
		return fmt.Sprintf("%dd", d/day)
	}
	return duration.Text(d)
}

// plain is text that may stand in a table.
func plain(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "*@", `\*@`).Replace(s)
}

// keyRows writes one row for each key that holds a value.
func keyRows(b *strings.Builder, schema, top map[string]any, path []string, env bool, defaults any) {
	props, _ := schema["properties"].(map[string]any)
	for _, key := range sortedKeys(props) {
		sub := props[key].(map[string]any)
		target := deref(sub, top)
		at := append(slices.Clone(path), key)
		def, _ := defaults.(map[string]any)
		if target["properties"] != nil {
			keyRows(b, target, top, at, env, def[key])
			continue
		}
		about, _ := sub["description"].(string)
		if choice, ok := target["enum"].([]any); ok && about == "" {
			about = "One of " + strings.Trim(fmt.Sprint(choice), "[]") + "."
		}
		name := ""
		if env {
			name = "`BEHALF_" + strings.ToUpper(strings.Join(at, "_")) + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", strings.Join(at, "."), cell(def[key]), name, plain(about))
		if items, ok := target["items"].(map[string]any); ok {
			last := append(slices.Clone(path), key+"[]")
			keyRows(b, deref(items, top), top, last, false, nil)
		}
	}
}

func deref(schema, top map[string]any) map[string]any {
	if ref, ok := schema["$ref"].(string); ok {
		return top["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
	}
	return schema
}

func cell(v any) string {
	switch v := v.(type) {
	case nil, map[string]any:
		return ""
	case string:
		if v == "" {
			return ""
		}
		return "`" + short(v) + "`"
	case []any:
		if len(v) == 0 {
			return ""
		}
	case float64:
		return fmt.Sprintf("`%d`", int64(v))
	}
	return fmt.Sprintf("`%v`", v)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// TestInputTables keeps the tables of policy input in docs/policies.md.
func TestInputTables(t *testing.T) {
	base := fields(policy.Schema(policy.PackageSender), "")
	stages := []struct {
		name, pkg string
		without   map[string]string
	}{
		{"sender", policy.PackageSender, nil},
		{"recipient", policy.PackageRecipient, base},
		{"message", policy.PackageMessage, base},
		{"inbound connect", policy.PackageInboundConnect, nil},
		{"inbound recipient", policy.PackageInboundRecipient, fields(policy.Schema(policy.PackageInboundConnect), "")},
		{"inbound message", policy.PackageInboundMessage, fields(policy.Schema(policy.PackageInboundRecipient), "")},
	}
	for _, s := range stages {
		var b strings.Builder
		b.WriteString("| field | type | meaning |\n| --- | --- | --- |\n")
		all := fields(policy.Schema(s.pkg), "")
		for _, path := range sortedKeys(all) {
			if s.without[path] == all[path] && s.without != nil {
				continue
			}
			fmt.Fprintf(&b, "| `%s` | %s |\n", path, all[path])
		}
		generated(t, "docs/policies.md", "input "+s.name, b.String())
	}
}

// fields maps the path of each field that holds a value to type and meaning.
func fields(schema map[string]any, path string) map[string]string {
	out := map[string]string{}
	props, _ := schema["properties"].(map[string]any)
	for name, v := range props {
		sub := v.(map[string]any)
		at := strings.TrimPrefix(path+"."+name, ".")
		if name[0] >= '0' && name[0] <= '9' {
			at = path + `["` + name + `"]`
		}
		if sub["properties"] != nil {
			for k, v := range fields(sub, at) {
				out[k] = v
			}
			continue
		}
		kind := fmt.Sprint(sub["type"])
		if items, ok := sub["items"].(map[string]any); ok {
			if items["properties"] != nil {
				for k, v := range fields(items, at+"[_]") {
					out[k] = v
				}
			}
			kind = "list"
			if items["type"] == "string" {
				kind = "list of strings"
			}
		}
		about, _ := sub["description"].(string)
		out[at] = kind + " | " + plain(about)
	}
	return out
}

// generated compares, or with -update rewrites, the part of a document between
// the lines <!-- begin NAME --> and <!-- end NAME -->.
func generated(t *testing.T, file, name, want string) {
	t.Helper()
	path := filepath.Join(root, file)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- begin "+name+" -->\n", "<!-- end "+name+" -->"
	i := bytes.Index(text, []byte(begin))
	j := bytes.Index(text, []byte(end))
	if i < 0 || j < i {
		t.Fatalf("%s has no part called %q", file, name)
	}
	if got := string(text[i+len(begin) : j]); got == want {
		return
	}
	if !*update {
		t.Errorf("%s: the part %q is out of date; run  go test ./internal -update", file, name)
		return
	}
	now := slices.Concat(text[:i+len(begin)], []byte(want), text[j:])
	if err := os.WriteFile(path, now, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestRecipes runs the policies that docs/policies.md shows, with their tests,
// and keeps the text there the same.
func TestRecipes(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(root, "docs", "recipes", "*"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("recipes %v, %v", dirs, err)
	}
	for _, dir := range dirs {
		name := filepath.Base(dir)
		t.Run(name, func(t *testing.T) {
			for _, p := range policy.Check(dir, policies.FS) {
				t.Error(p)
			}
			var out bytes.Buffer
			report, ok, err := policy.Test(t.Context(), dir, policies.FS, nil, &out)
			if err != nil || !ok || report.Passed == 0 || report.Coverage < 100 {
				t.Errorf("%v, %d passed, coverage %.1f\n%s", err, report.Passed, report.Coverage, out.String())
			}
			text, err := os.ReadFile(filepath.Join(dir, name+".rego"))
			if err != nil {
				t.Fatal(err)
			}
			generated(t, "docs/policies.md", "recipe "+name, "```rego\n"+string(text)+"```\n")
		})
	}
}

// TestRecipesTogether: recipes and default policies may stand in one folder, as
// docs/policies.md says: all compile, and no two files of a package give a rule
// the same name, but for results.
func TestRecipesTogether(t *testing.T) {
	together := t.TempDir()
	var data bytes.Buffer
	at := map[string]string{}
	defined := regexp.MustCompile(`(?m)^(?:default )?([a-z_]+)\b(?:\(| |\[)`)
	folders := []string{filepath.Join(root, "policies")}
	recipes, err := filepath.Glob(filepath.Join(root, "docs", "recipes", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range append(folders, recipes...) {
		files, err := filepath.Glob(filepath.Join(dir, "*.rego"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.rego") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name := filepath.Base(file)
			pkg := string(regexp.MustCompile(`(?m)^package .*$`).Find(text))
			for _, m := range defined.FindAllSubmatch(text, -1) {
				rule := string(m[1])
				if word := strings.Fields(string(m[0]))[0]; word == "package" || word == "import" || bytes.Contains(text, []byte("\n"+rule+" contains {\"")) || bytes.Contains(text, []byte("\n"+rule+" contains {\n")) {
					continue
				}
				if other := at[pkg+" "+rule]; other != "" && other != name {
					t.Errorf("%s: %s and %s both define %s", pkg, other, name, rule)
				}
				at[pkg+" "+rule] = name
			}
			if err := os.WriteFile(filepath.Join(together, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if text, err := os.ReadFile(filepath.Join(dir, "data.yaml")); err == nil {
			data.Write(text)
		}
	}
	if err := os.WriteFile(filepath.Join(together, "data.yaml"), data.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range policy.Check(together, policies.FS) {
		t.Error(p)
	}
}

// TestMetricsAreDocumented compares the metrics in the code with those that
// docs/operations.md explains and the dashboard draws.
func TestMetricsAreDocumented(t *testing.T) {
	inCode := map[string]bool{}
	literal := regexp.MustCompile(`"(behalf_[a-z0-9_]+)"`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
			if err == nil {
				err = fs.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range literal.FindAllSubmatch(text, -1) {
			inCode[string(m[1])] = true
		}
		return err
	})
	if err != nil || len(inCode) < 10 {
		t.Fatalf("%d metrics, %v", len(inCode), err)
	}
	mentioned := regexp.MustCompile(`\bbehalf_[a-z0-9_]+`)
	for _, file := range []string{"docs/operations.md", "configs/grafana-dashboard.json"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, m := range mentioned.FindAllString(string(text), -1) {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				m = strings.TrimSuffix(m, suffix)
			}
			seen[m] = true
			if !inCode[m] {
				t.Errorf("%s speaks of %s, which the code does not have", file, m)
			}
		}
		for _, m := range sortedKeys(inCode) {
			if !seen[m] {
				t.Errorf("%s says nothing of %s", file, m)
			}
		}
		if strings.HasSuffix(file, ".json") && !json.Valid(text) {
			t.Errorf("%s is not JSON", file)
		}
	}
}

// TestLinks follows the relative links of all documents, to files and headings.
func TestLinks(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, filepath.Join(root, "README.md"), filepath.Join(root, "CHANGELOG.md"))
	link := regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)\s]*))?\)`)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			target := f
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(f), m[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link %s leads nowhere", f, m[0])
				continue
			}
			if m[2] != "" && !slices.Contains(headings(t, target), m[2]) {
				t.Errorf("%s: there is no heading #%s in %s", f, m[2], target)
			}
		}
		// Paths of the tree that stand in backquotes must exist too.
		for _, m := range regexp.MustCompile("`((?:cmd|docs|configs|policies|internal|mail|relay|spool|tenant|upstream|web|limit|policy|scripts)/[A-Za-z0-9_./-]*\\.(?:go|md|json|rego|yaml))`").FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s names %s, which is not there", f, m[1])
			}
		}
	}
}

// TestYAMLBlocks parses every YAML example.
func TestYAMLBlocks(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```")
	found := 0
	for _, f := range append(files, filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range block.FindAllSubmatch(text, -1) {
			found++
			for dec := yaml.NewDecoder(bytes.NewReader(m[1])); ; {
				var v any
				if err := dec.Decode(&v); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Errorf("%s: %v in\n%s", f, err, m[1])
					break
				}
			}
		}
	}
	if found == 0 {
		t.Error("no example was found")
	}
}

// headings are the anchors of a document.
func headings(t *testing.T, file string) []string {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		title, ok := strings.CutPrefix(strings.TrimLeft(strings.TrimSpace(line), "#"), " ")
		if !ok || !strings.HasPrefix(line, "#") {
			continue
		}
		out = append(out, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || 'a' <= r && r <= 'z' || '0' <= r && r <= '9':
				return r
			}
			return -1
		}, strings.ToLower(title)))
	}
	return out
}
