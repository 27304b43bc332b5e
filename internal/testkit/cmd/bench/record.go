package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// record takes what a part finds: Markdown for people, on the standard output
// and in PART.md, and a line of JSON for each measurement in PART.jsonl.
type record struct {
	dir      string
	json, md *os.File
	errs     []error
}

func newRecord(dir, part string) (*record, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of the results: %w", err)
	}
	r := &record{dir: dir}
	var err error
	if r.json, err = os.Create(filepath.Join(dir, part+".jsonl")); err != nil {
		return nil, err
	}
	if r.md, err = os.Create(filepath.Join(dir, part+".md")); err != nil {
		return nil, errors.Join(err, r.json.Close())
	}
	return r, nil
}

// note writes one measurement.
func (r *record) note(v any) {
	if err := json.NewEncoder(r.json).Encode(v); err != nil {
		r.errs = append(r.errs, fmt.Errorf("writing a result: %w", err))
	}
}

// say writes Markdown.
func (r *record) say(format string, args ...any) {
	if _, err := fmt.Fprintf(io.MultiWriter(os.Stdout, r.md), format, args...); err != nil {
		r.errs = append(r.errs, fmt.Errorf("writing a table: %w", err))
	}
}

// tell says how far it is, to who waits.
func (r *record) tell(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

func (r *record) close() error {
	return errors.Join(errors.Join(r.errs...), r.json.Close(), r.md.Close())
}
