package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// document is one resource of a file, as JSON, with its place.
type document struct {
	raw   json.RawMessage
	where string // file:line
	dir   string // relative paths in it are taken from here
}

// readResources reads the YAML documents of a file, or of all .yaml and .yml
// files of a folder in the order of their names. "-" is the standard input.
func readResources(path string) ([]document, error) {
	if path == "-" {
		return readResourceFile("/dev/stdin")
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return readResourceFile(path)
	}
	var files []string
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if ext := filepath.Ext(p); err == nil && !d.IsDir() && (ext == ".yaml" || ext == ".yml") {
			files = append(files, p)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no .yaml files in %s", path)
	}
	slices.Sort(files)
	var all []document
	for _, f := range files {
		docs, err := readResourceFile(f)
		if err != nil {
			return nil, err
		}
		all = append(all, docs...)
	}
	return all, nil
}

func readResourceFile(path string) ([]document, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, yamlError(path, err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	var docs []document
	for _, d := range file.Docs {
		if d.Body == nil || d.Body.Type() == ast.NullType || d.Body.Type() == ast.CommentType {
			continue
		}
		where := fmt.Sprintf("%s:%d", path, firstLine(d.Body))
		var v any
		if err := yaml.NodeToValue(d.Body, &v); err != nil {
			return nil, yamlError(path, err)
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		docs = append(docs, document{raw, where, dir})
	}
	return docs, nil
}

// firstLine is the line of a document's first key.
func firstLine(n ast.Node) int {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 {
		return m.Values[0].Key.GetToken().Position.Line
	}
	return n.GetToken().Position.Line
}

func yamlError(path string, err error) error {
	var y yaml.Error
	if errors.As(err, &y) && y.GetToken() != nil {
		return fmt.Errorf("%s:%d: %s", path, y.GetToken().Position.Line, strings.TrimSpace(y.GetMessage()))
	}
	return fmt.Errorf("%s: %w", path, err)
}
