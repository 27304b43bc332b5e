package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document is one resource of a file, as JSON, with its place.
type document struct {
	raw   json.RawMessage
	where string // file:line
	dir   string // relative paths in it are taken from here
}

// readResources reads the YAML documents of a file, or of all .yaml and .yml
// files of a folder in the order of their names. "-" is the standard input.
func readResources(path string, stdin io.Reader) ([]document, error) {
	if path == "-" {
		text, err := io.ReadAll(stdin)
		if err != nil {
			return nil, fmt.Errorf("reading the standard input: %w", err)
		}
		return parseResources("standard input", ".", text)
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
	return parseResources(path, filepath.Dir(path), text)
}

// parseResources reads documents whose relative paths begin at dir.
func parseResources(path, dir string, text []byte) ([]document, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	var docs []document
	dec := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var node yaml.Node
		err := dec.Decode(&node)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return nil, yamlError(path, err)
		}
		var v any
		if err := node.Decode(&v); err != nil {
			return nil, yamlError(path, err)
		}
		if v == nil {
			continue
		}
		where := fmt.Sprintf("%s:%d", path, node.Content[0].Line)
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		docs = append(docs, document{raw, where, dir})
	}
}

func yamlError(path string, err error) error {
	var types *yaml.TypeError
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if errors.As(err, &types) && len(types.Errors) > 0 {
		text = types.Errors[0]
	}
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		line, what, _ := strings.Cut(rest, ": ")
		return fmt.Errorf("%s:%s: %s", path, line, what)
	}
	return fmt.Errorf("%s: %s", path, text)
}
