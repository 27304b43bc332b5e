package config

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"go.yaml.in/yaml/v3"

	"behalf/mail"
)

//go:embed schema.json
var schemaText []byte

// Schema is the JSON schema of the configuration file.
func Schema() []byte { return bytes.Clone(schemaText) }

// source is a configuration text that knows where each of its keys stands.
type source struct {
	name string
	text []byte
	root *yaml.Node
	env  map[string]string // JSON pointer of a value -> the variable that set it
}

// document parses the text, lays the environment over it and checks the result
// against the schema.
func (s *source) document(environ []string) (map[string]any, error) {
	var root yaml.Node
	doc := map[string]any{}
	dec := yaml.NewDecoder(bytes.NewReader(s.text))
	if err := dec.Decode(&root); err != nil && !errors.Is(err, io.EOF) {
		return nil, s.yamlError(err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: one YAML document is wanted, not several", s.name)
	}
	s.root = &root
	if err := root.Decode(&doc); err != nil {
		return nil, s.yamlError(err)
	}
	var err error
	if doc, err = asJSON(doc); err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	tree, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemaText))
	if err != nil {
		return nil, fmt.Errorf("the built-in schema: %w", err)
	}
	if err := s.overlay(doc, tree.(map[string]any), environ); err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for _, f := range formats() {
		c.RegisterFormat(f)
	}
	if err := c.AddResource("behalf.json", tree); err != nil {
		return nil, fmt.Errorf("the built-in schema: %w", err)
	}
	schema, err := c.Compile("behalf.json")
	if err != nil {
		return nil, fmt.Errorf("the built-in schema: %w", err)
	}
	err = schema.Validate(doc)
	var bad *jsonschema.ValidationError
	if errors.As(err, &bad) {
		return nil, s.explain(bad, tree.(map[string]any))
	}
	return doc, err
}

// asJSON gives numbers the types that the schema checker knows.
func asJSON(doc map[string]any) (map[string]any, error) {
	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		m = map[string]any{}
	}
	return m, nil
}

func (s *source) yamlError(err error) error {
	var types *yaml.TypeError
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if errors.As(err, &types) && len(types.Errors) > 0 {
		text = types.Errors[0]
	}
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		line, what, _ := strings.Cut(rest, ": ")
		return fmt.Errorf("%s:%s: %s", s.name, line, what)
	}
	return fmt.Errorf("%s:1: %s", s.name, text)
}

// overlay sets every key that the environment names: BEHALF_LISTEN_SUBMISSION
// is listen.submission. Lists and mappings are given as YAML flow text.
func (s *source) overlay(doc, schema map[string]any, environ []string) error {
	s.env = map[string]string{}
	vars := map[string]string{}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(k, "BEHALF_") {
			vars[k] = v
		}
	}
	if err := unknownVariable(schema, vars); err != nil {
		return err
	}
	return s.overlayObject(doc, schema, schema, nil, vars)
}

// unknownVariable refuses a variable that is one slip away from a key. Others
// that begin with BEHALF_ may be anybody's, secrets that resources name as
// env:BEHALF_… among them.
func unknownVariable(schema map[string]any, vars map[string]string) error {
	var known []string
	collect(schema, schema, "BEHALF", &known)
	for name := range vars {
		if slices.Contains(known, name) || name == "BEHALF_SERVER" || name == "BEHALF_KEY" || name == "BEHALF_TENANT" {
			continue
		}
		for _, k := range known {
			if levenshtein.ComputeDistance(name, k) <= 2 {
				return fmt.Errorf("environment variable %s: there is no such key; did you mean %s?", name, k)
			}
		}
	}
	return nil
}

// collect lists the variables of all keys below a schema.
func collect(schema, root map[string]any, prefix string, names *[]string) {
	props, _ := schema["properties"].(map[string]any)
	for key, sub := range props {
		name := prefix + "_" + strings.ToUpper(key)
		*names = append(*names, name)
		collect(deref(sub.(map[string]any), root), root, name, names)
	}
}

func (s *source) overlayObject(doc, schema, root map[string]any, path []string, vars map[string]string) error {
	props, _ := schema["properties"].(map[string]any)
	for key, sub := range props {
		at := append(slices.Clone(path), key)
		name := "BEHALF_" + strings.ToUpper(strings.Join(at, "_"))
		subSchema := deref(sub.(map[string]any), root)
		if text, ok := vars[name]; ok {
			v, err := envValue(text, subSchema)
			if err != nil {
				return fmt.Errorf("environment variable %s: %w", name, err)
			}
			doc[key] = v
			s.env[pointer(at)] = name
			continue
		}
		if subSchema["properties"] == nil {
			continue
		}
		child, ok := doc[key].(map[string]any)
		if !ok && doc[key] != nil {
			continue // the schema will say what is wrong with it
		}
		if child == nil {
			child = map[string]any{}
		}
		if err := s.overlayObject(child, subSchema, root, at, vars); err != nil {
			return err
		}
		if len(child) > 0 {
			doc[key] = child
		}
	}
	return nil
}

// envValue reads a variable as the YAML it would be in the file, but keeps text
// as text where the schema wants a string.
func envValue(text string, schema map[string]any) (any, error) {
	if schema["type"] == "string" {
		return text, nil
	}
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		return nil, fmt.Errorf("%q is not YAML", text)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(raw))
}

func deref(schema, root map[string]any) map[string]any {
	ref, ok := schema["$ref"].(string)
	if !ok {
		return schema
	}
	defs, _ := root["$defs"].(map[string]any)
	d, _ := defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
	return d
}

func pointer(path []string) string { return "/" + strings.Join(path, "/") }

// explain turns the deepest finding into one sentence with its place.
func (s *source) explain(e *jsonschema.ValidationError, root map[string]any) error {
	for len(e.Causes) > 0 {
		deepest := e.Causes[0]
		for _, c := range e.Causes[1:] {
			if depth(c) > depth(deepest) {
				deepest = c
			}
		}
		e = deepest
	}
	where := s.where(e.InstanceLocation)
	if k, ok := e.ErrorKind.(*kind.AdditionalProperties); ok {
		name := k.Properties[0]
		where = s.where(append(slices.Clone(e.InstanceLocation), name))
		msg := fmt.Sprintf("%s: unknown key %q", where, strings.Join(append(slices.Clone(e.InstanceLocation), name), "."))
		if near := nearest(name, schemaAt(root, e.InstanceLocation)); near != "" {
			msg += fmt.Sprintf("; did you mean %q?", near)
		}
		return errors.New(msg)
	}
	full := e.Error()
	if i := strings.LastIndex(full, "': "); i >= 0 {
		full = full[i+3:]
	}
	return fmt.Errorf("%s: %s: %s", where, strings.Join(e.InstanceLocation, "."), full)
}

func depth(e *jsonschema.ValidationError) int {
	d := len(e.InstanceLocation)
	for _, c := range e.Causes {
		d = max(d, depth(c))
	}
	return d
}

// schemaAt lists the keys that the schema knows at a place.
func schemaAt(root map[string]any, path []string) []string {
	at := root
	for _, p := range path {
		props, _ := at["properties"].(map[string]any)
		next, ok := props[p].(map[string]any)
		if !ok {
			next, ok = at["items"].(map[string]any)
		}
		if !ok { // a map whose keys are names
			next, _ = at["additionalProperties"].(map[string]any)
		}
		if at = deref(next, root); at == nil {
			return nil
		}
	}
	props, _ := at["properties"].(map[string]any)
	keys := make([]string, 0, len(props))
	for k := range props {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func nearest(name string, known []string) string {
	best, distance := "", 1+len(name)/2
	for _, k := range known {
		if d := levenshtein.ComputeDistance(name, k); d < distance {
			best, distance = k, d
		}
	}
	return best
}

// where names the place of a value: file:line, or the variable that set it.
func (s *source) where(path []string) string {
	for i := len(path); i > 0; i-- {
		if v := s.env[pointer(path[:i])]; v != "" {
			return "environment variable " + v
		}
		if line := s.line(path[:i]); line > 0 {
			return s.name + ":" + strconv.Itoa(line)
		}
	}
	return s.name
}

func (s *source) line(path []string) int {
	if s.root == nil || len(s.root.Content) == 0 {
		return 0
	}
	node, line := s.root.Content[0], 0
	for _, p := range path {
		var next *yaml.Node
		switch node.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(node.Content); i += 2 {
				if node.Content[i].Value == p {
					next, line = node.Content[i+1], node.Content[i].Line
				}
			}
		case yaml.SequenceNode:
			if i, err := strconv.Atoi(p); err == nil && i < len(node.Content) {
				next = node.Content[i]
				line = next.Line
			}
		}
		if next == nil {
			return 0
		}
		node = next
	}
	return line
}

// formats are the kinds of text that the schema names and JSON Schema lacks.
func formats() []*jsonschema.Format {
	text := func(name string, check func(string) error) *jsonschema.Format {
		return &jsonschema.Format{Name: name, Validate: func(v any) error {
			s, ok := v.(string)
			if !ok {
				return nil
			}
			return check(s)
		}}
	}
	return []*jsonschema.Format{
		text("domain", func(s string) error { _, err := mail.ParseDomain(s); return err }),
		text("email", func(s string) error { _, err := mail.ParseAddress(s); return err }),
		text("ip", func(s string) error { _, err := netip.ParseAddr(s); return err }),
		text("cidr", func(s string) error { _, err := netip.ParsePrefix(s); return err }),
		text("duration-go", func(s string) error { _, err := parseDuration(s); return err }),
		text("hostport", func(s string) error {
			_, port, err := net.SplitHostPort(s)
			if err != nil {
				return errors.New("want host:port")
			}
			if n, err := strconv.ParseUint(port, 10, 16); err != nil || n > 65535 {
				return errors.New("want a port number from 0 to 65535")
			}
			return nil
		}),
	}
}
