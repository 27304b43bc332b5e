package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Bounds of a policy set.
const (
	maxFiles  = 1000
	maxSource = 2 << 20  // bytes of Rego in all
	maxData   = 16 << 20 // bytes of data in all
)

// source is the files of a policy set as they were read, and nothing parsed.
type source struct {
	rego  map[string][]byte // by path within the folder; no tests
	tests map[string][]byte
	data  map[string][]byte // data.yaml, data.yml, data.json at any depth
	// regoSize counts bytes of rego and tests, dataSize of data.
	regoSize, dataSize int
	builtIn            bool // no folder was there to read
}

// fileSet says how a file counts: as policy, test or data; nil for none.
func (s *source) fileSet(name string) map[string][]byte {
	switch base := path.Base(name); {
	case strings.HasSuffix(base, "_test.rego"):
		return s.tests
	case strings.HasSuffix(base, ".rego"):
		return s.rego
	case base == "data.yaml" || base == "data.yml" || base == "data.json":
		return s.data
	}
	return nil
}

func newSource() *source {
	return &source{rego: map[string][]byte{}, tests: map[string][]byte{}, data: map[string][]byte{}}
}

// readSource reads a folder.
func readSource(dir fs.FS) (*source, error) {
	s := newSource()
	err := walkPolicies(dir, func(name string, _ fs.DirEntry) error {
		f, err := dir.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return s.add(name, f)
	})
	if err != nil {
		return nil, err
	}
	return s, s.check()
}

// add reads one file into the set, which it must belong to; the bounds of a set
// hold for what was added so far.
func (s *source) add(name string, r io.Reader) error {
	set := s.fileSet(name)
	if set == nil {
		return tell("%s is no file of a policy set", name)
	}
	if s.files() == maxFiles {
		return tell("more than %d policy files", maxFiles)
	}
	bound, used := maxSource, &s.regoSize
	if strings.HasPrefix(path.Base(name), "data.") {
		bound, used = maxData, &s.dataSize
	}
	left := bound - *used
	b, err := io.ReadAll(io.LimitReader(r, int64(left)+1))
	if err == nil && len(b) > left {
		err = tell("%s: the policy set is too big (bounds: %d bytes of Rego, %d bytes of data)", name, maxSource, maxData)
	}
	if err != nil {
		return err
	}
	*used += len(b)
	set[name] = b
	return nil
}

// check refuses a set that could never say anything.
func (s *source) check() error {
	if len(s.rego) == 0 {
		return tell("no .rego file in the policy folder; to accept everything, put a file there that holds only a package clause")
	}
	return nil
}

func (s *source) files() int { return len(s.rego) + len(s.tests) + len(s.data) }

// walkPolicies visits the files that belong to a policy set. Files and folders
// whose names begin with a dot do not, so that what Kubernetes mounts is not read
// twice.
func walkPolicies(dir fs.FS, fn func(name string, d fs.DirEntry) error) error {
	all := newSource()
	return fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name != "." && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir() || all.fileSet(name) == nil:
			return nil
		}
		return fn(name, d)
	})
}

func readAtMost(dir fs.FS, name string, n int) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(n)+1))
	if err == nil && len(b) > n {
		return nil, tell("%s: the policy set is too big (bounds: %d bytes of Rego, %d bytes of data)", name, maxSource, maxData)
	}
	return b, err
}

// digest names the set: everything but its tests goes in.
func (s *source) digest() string {
	h := sha256.New()
	for _, set := range []map[string][]byte{s.rego, s.data} {
		for _, name := range sortedKeys(set) {
			fmt.Fprintf(h, "%d %s %d\n", len(name), name, len(set[name]))
			h.Write(set[name])
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// parseData reads one data file and gives it back in JSON's types, numbers as
// they were written.
func parseData(name string, b []byte) (map[string]any, error) {
	if !strings.HasSuffix(name, ".json") {
		var v any
		if err := yaml.Unmarshal(b, &v); err != nil {
			return nil, err
		}
		if v == nil {
			return map[string]any{}, nil
		}
		var err error
		if b, err = json.Marshal(plain(v)); err != nil {
			return nil, err
		}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var doc map[string]any
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("the data must be a map of names to values: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one document")
	}
	return doc, nil
}

// plain makes keys of YAML maps strings, as JSON wants them.
func plain(v any) any {
	switch v := v.(type) {
	case map[any]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			m[fmt.Sprint(k)] = plain(e)
		}
		return m
	case map[string]any:
		for k, e := range v {
			v[k] = plain(e)
		}
	case []any:
		for i, e := range v {
			v[i] = plain(e)
		}
	case *big.Int:
		return json.Number(v.String())
	case time.Time:
		return v.Format(time.RFC3339Nano)
	}
	return v
}

// yamlError takes an error of the YAML parser apart: its line, 0 when it names
// none, and its message without the excerpt.
func yamlError(err error) (line int, message string) {
	message = strings.TrimPrefix(err.Error(), "yaml: ")
	var types *yaml.TypeError
	if errors.As(err, &types) && len(types.Errors) > 0 {
		message = types.Errors[0]
	}
	rest, ok := strings.CutPrefix(message, "line ")
	if !ok {
		return 0, message
	}
	number, what, _ := strings.Cut(rest, ": ")
	if line, err = strconv.Atoi(number); err != nil {
		return 0, message
	}
	return line, what
}

// signature changes whenever a policy file may have changed. It reads names,
// sizes and times only, and the content of files so young that a second change
// could hide behind the same time.
func signature(dir fs.FS, now time.Time) (string, error) {
	h := sha256.New()
	err := walkPolicies(dir, func(name string, d fs.DirEntry) error {
		info, err := fs.Stat(dir, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%q %d %d\n", name, info.Size(), info.ModTime().UnixNano())
		if age := now.Sub(info.ModTime()); age < 3*time.Second {
			b, err := readAtMost(dir, name, maxData)
			if err != nil {
				return err
			}
			fmt.Fprintf(h, "%x\n", sha256.Sum256(b))
		}
		return nil
	})
	return string(h.Sum(nil)), err
}

// openFolder is the folder at path, or defaults when there is none.
func openFolder(path string, defaults fs.FS) (dir fs.FS, isDefault bool, err error) {
	if path == "" {
		return defaults, true, nil
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && defaults != nil:
		return defaults, true, nil
	case err != nil:
		return nil, false, err
	case !info.IsDir():
		return nil, false, fmt.Errorf("%s is not a folder", path)
	}
	return os.DirFS(path), false, nil
}
