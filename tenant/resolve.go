package tenant

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxSecretFile bounds what file: reads, in octets.
const maxSecretFile = 64 << 10

// ResolveSecrets replaces the references in the secret fields of a resource by
// what they name: file:PATH by the file's text without its last line end, and
// env:NAME by the variable's value. The path in smtp.ca_file is replaced by the
// file's text too. Relative paths are taken from baseDir. It is for the behalf
// command, on the machine where the files are; the Directory takes values only.
func ResolveSecrets(raw json.RawMessage, baseDir string) (json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var o map[string]any
	if err := dec.Decode(&o); err != nil {
		return nil, explain(err)
	}
	rs := resolver{dir: baseDir}
	switch Kind(text(o, "kind")) {
	case KindCredential:
		rs.value(o, "secret", "secret")
	case KindDomain:
		keys, _ := o["dkim"].([]any)
		for _, k := range keys {
			if k, ok := k.(map[string]any); ok {
				rs.value(k, "key", "dkim.key")
			}
		}
	case KindConnection:
		if s, ok := o["smtp"].(map[string]any); ok {
			rs.value(s, "password", "smtp.password")
			rs.file(s, "ca_file", "smtp.ca_file")
		}
	}
	if err := rs.faults.err(); err != nil {
		return nil, err
	}
	return json.Marshal(o)
}

func text(o map[string]any, field string) string {
	s, _ := o[field].(string)
	return s
}

type resolver struct {
	dir    string
	faults faults
}

func (r *resolver) value(o map[string]any, field, label string) {
	s := text(o, field)
	if s == "" {
		return
	}
	v, err := ResolveSecret(s, r.dir)
	if err != nil {
		r.faults.add(label, "%v", err)
		return
	}
	o[field] = v
}

func (r *resolver) file(o map[string]any, field, label string) {
	s := strings.TrimPrefix(text(o, field), "file:")
	if s == "" || strings.HasPrefix(strings.TrimSpace(s), "-----BEGIN") {
		return
	}
	v, err := readSecret(s, r.dir)
	if err != nil {
		r.faults.add(label, "%v", err)
		return
	}
	o[field] = v
}

// ResolveSecret gives the secret that s is: file:PATH (relative to baseDir),
// env:NAME, or s itself.
func ResolveSecret(s, baseDir string) (string, error) {
	if path, ok := strings.CutPrefix(s, "file:"); ok {
		return readSecret(path, baseDir)
	}
	if name, ok := strings.CutPrefix(s, "env:"); ok {
		v, set := os.LookupEnv(name)
		if !set || v == "" {
			return "", fmt.Errorf("the environment variable %s is not set", name)
		}
		return v, nil
	}
	return s, nil
}

func readSecret(path, baseDir string) (string, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(baseDir, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	switch {
	case err != nil:
		return "", err
	case len(b) > maxSecretFile:
		return "", fmt.Errorf("%s is larger than %d KiB", path, maxSecretFile>>10)
	case len(b) == 0:
		return "", fmt.Errorf("%s is empty", path)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), nil
}
