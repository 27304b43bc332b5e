package policy

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// contents is what the files of a policy set say. Sets that have files in common
// share what was read of them, so nothing in it is ever changed.
type contents struct {
	source  *source
	modules map[string]*ast.Module    // as parsed, by file; no tests
	files   map[string]map[string]any // each data file
	data    map[string]any            // all of them
}

// readContents parses a set. What before has in the same words, which may be nil, is not
// parsed again. Contents of which something is wrong lack that.
func readContents(src *source, before *contents) (*contents, Problems) {
	if before == nil {
		before = &contents{source: newSource()}
	}
	c := &contents{source: src}
	var problems, bad Problems
	c.modules, problems = parse(src.rego, before)
	c.files, c.data, bad = src.document(before)
	return c, append(problems, bad...)
}

func parse(files map[string][]byte, before *contents) (map[string]*ast.Module, Problems) {
	modules := make(map[string]*ast.Module, len(files))
	var problems Problems
	for _, name := range sortedKeys(files) {
		if m := before.modules[name]; m != nil && bytes.Equal(before.source.rego[name], files[name]) {
			modules[name] = m
			continue
		}
		m, err := ast.ParseModuleWithOpts(name, string(files[name]), ast.ParserOptions{RegoVersion: ast.RegoV1, ProcessAnnotation: true})
		switch {
		case err != nil:
			problems = append(problems, problemsOf(name, err)...)
		case m == nil:
			problems = append(problems, Problem{File: name, Message: "the file is empty: a policy begins with a package clause"})
		default:
			modules[name] = m
		}
	}
	return modules, problems
}

// document reads the data files and merges them: data.yaml in the folder a/b
// stands at data.a.b, as in OPA's bundles.
func (s *source) document(before *contents) (files map[string]map[string]any, root map[string]any, problems Problems) {
	files, root = map[string]map[string]any{}, map[string]any{}
	for _, name := range sortedKeys(s.data) {
		doc := before.files[name]
		if doc == nil || !bytes.Equal(before.source.data[name], s.data[name]) {
			var err error
			if doc, err = parseData(name, s.data[name]); err != nil {
				line, message := yamlError(err)
				return nil, nil, Problems{{File: name, Line: line, Message: message}}
			}
		}
		files[name] = doc
		at := root
		if dir := path.Dir(name); dir != "." {
			for part := range strings.SplitSeq(dir, "/") {
				next, _ := at[part].(map[string]any)
				if next = maps.Clone(next); next == nil { // it may be a part of a file
					next = map[string]any{}
				}
				at[part] = next
				at = next
			}
		}
		for k, v := range doc {
			if _, twice := at[k]; twice {
				return nil, nil, Problems{{File: name, Message: fmt.Sprintf("%q stands in another data file already", k)}}
			}
			at[k] = v
		}
	}
	return files, root, nil
}

// sameData tells whether both have the same data files.
func (c *contents) sameData(o *contents) bool {
	return maps.EqualFunc(c.source.data, o.source.data, bytes.Equal)
}
