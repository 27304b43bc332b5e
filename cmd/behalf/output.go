package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// output writes lists as a table, or as JSON, JSON lines or YAML.
type output struct {
	format string
}

func (o *output) add(cmd *cobra.Command) {
	o.format = "table"
	cmd.Flags().VarP((*format)(&o.format), "output", "o", "table, json, jsonl or yaml")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
}

// format is the value of -o.
type format string

// String implements pflag.Value.
func (f *format) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *format) Type() string { return "FORMAT" }

// Set implements pflag.Value.
func (f *format) Set(s string) error {
	if !slices.Contains(formats, s) {
		return fmt.Errorf("want %s", strings.Join(formats, ", "))
	}
	*f = format(s)
	return nil
}

var formats = []string{"table", "json", "jsonl", "yaml"}

// column is one column of a table: its head and the field it shows, with dots
// for fields of objects and # for the number of elements.
type column struct{ head, field string }

// write writes items; columns are for the table only.
func (o *output) write(w io.Writer, items []json.RawMessage, columns []column) error {
	switch o.format {
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		if items == nil {
			items = []json.RawMessage{}
		}
		return enc.Encode(items)
	case "jsonl":
		for _, it := range items {
			if _, err := fmt.Fprintf(w, "%s\n", it); err != nil {
				return err
			}
		}
		return nil
	case "yaml":
		for _, it := range items {
			b, err := asYAML(it)
			if err != nil {
				return fmt.Errorf("writing YAML: %w", err)
			}
			if _, err := fmt.Fprintf(w, "---\n%s", b); err != nil {
				return err
			}
		}
		return nil
	}
	return table(w, items, columns)
}

func table(w io.Writer, items []json.RawMessage, columns []column) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	heads := make([]string, len(columns))
	for i, c := range columns {
		heads[i] = c.head
	}
	fmt.Fprintln(t, strings.Join(heads, "\t"))
	for _, it := range items {
		var v map[string]any
		if err := json.Unmarshal(it, &v); err != nil {
			return fmt.Errorf("reading the server's answer: %w", err)
		}
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = cell(v, c.field)
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return t.Flush()
}

// cell is one field as text.
func cell(v any, field string) string {
	for name := range strings.SplitSeq(field, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[name]
		case []any:
			if name == "#" {
				return fmt.Sprint(len(x))
			}
			var parts []string
			for _, e := range x {
				parts = append(parts, cell(e, name))
			}
			return strings.Join(parts, ", ")
		}
	}
	switch x := v.(type) {
	case nil:
		return "-"
	case string:
		if at, err := time.Parse(time.RFC3339Nano, x); err == nil {
			return at.Local().Format("2006-01-02 15:04:05")
		}
		return clean(x)
	case float64:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", x), ".0")
	case bool:
		if x {
			return "yes"
		}
		return "no"
	case []any:
		var parts []string
		for _, e := range x {
			parts = append(parts, cell(e, ""))
		}
		return strings.Join(parts, ", ")
	case map[string]any:
		parts := make([]string, 0, len(x))
		for _, k := range slices.Sorted(maps.Keys(x)) {
			parts = append(parts, k+"="+cell(x[k], ""))
		}
		return clean(strings.Join(parts, ", "))
	}
	return fmt.Sprint(v)
}

// one writes a single object: YAML for people, else as the format says.
func (o *output) one(w io.Writer, it json.RawMessage) error {
	if o.format == "table" {
		b, err := asYAML(it)
		if err != nil {
			return fmt.Errorf("writing YAML: %w", err)
		}
		_, err = w.Write(b)
		return err
	}
	if o.format == "json" {
		var v any
		if err := json.Unmarshal(it, &v); err != nil {
			return fmt.Errorf("reading the server's answer: %w", err)
		}
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	return o.write(w, []json.RawMessage{it}, nil)
}

// asYAML writes JSON as YAML, with its keys in their order: JSON is YAML too.
func asYAML(it json.RawMessage) ([]byte, error) {
	var n yaml.Node
	if err := yaml.Unmarshal(it, &n); err != nil {
		return nil, err
	}
	plain(&n)
	return yaml.Marshal(&n)
}

// plain drops the style of JSON, quotes and braces, where YAML needs none.
func plain(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		plain(c)
	}
}
