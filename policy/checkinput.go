package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/agnivade/levenshtein"
)

// checkInput compares a value in JSON, numbers as they are written, with a schema
// of this package; path is where it stands. What is null counts as left out.
func checkInput(v any, schema map[string]any, path string) error {
	if v == nil {
		return nil
	}
	want, _ := schema["type"].(string)
	if got := jsonType(v); got != want && !(got == "integer" && want == "number") {
		if path == "" {
			path = "it"
		}
		return fmt.Errorf("%s must be %s, this is %s", path, article(want), article(got))
	}
	switch v := v.(type) {
	case []any:
		items, _ := schema["items"].(map[string]any)
		for i, one := range v {
			if err := checkInput(one, items, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case map[string]any:
		return checkFields(v, schema, path)
	}
	return nil
}

func checkFields(object, schema map[string]any, path string) error {
	properties, _ := schema["properties"].(map[string]any)
	others, open := schema["additionalProperties"].(map[string]any)
	for _, name := range sortedKeys(object) {
		field, ok := properties[name].(map[string]any)
		if !ok && open {
			field, ok = others, true
		}
		at := strings.TrimPrefix(path+"."+name, ".")
		if !ok {
			meant := sortedKeys(properties)
			if path == "" { // the stage is told from the fields, so it may be another's
				meant = topFields()
			}
			return unknownField(at, name, sortedKeys(properties), meant)
		}
		if err := checkInput(object[name], field, at); err != nil {
			return err
		}
	}
	return nil
}

// topFields are the fields of the inputs of all stages.
func topFields() []string {
	all := map[string]any{}
	for i := range stageCount {
		maps.Copy(all, typeSchema(i)["properties"].(map[string]any))
	}
	return sortedKeys(all)
}

// unknownField names what was misspelt, and what was perhaps meant.
func unknownField(at, name string, known, meant []string) error {
	const far = 3
	best, distance := "", far
	for _, k := range meant {
		if d := levenshtein.ComputeDistance(strings.ToLower(name), k); d < distance {
			best, distance = k, d
		}
	}
	if best == "" || best == name {
		return fmt.Errorf("unknown field %q; there are %s", at, strings.Join(known, ", "))
	}
	return fmt.Errorf("unknown field %q; did you mean %q?", at, best)
}

// jsonType is the type of a value in the words of JSON schema.
func jsonType(v any) string {
	switch v := v.(type) {
	case string:
		return "string"
	case bool:
		return "boolean"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	case json.Number:
		if _, err := v.Int64(); err == nil {
			return "integer"
		}
	}
	return "number"
}

func article(jsonType string) string {
	switch jsonType {
	case "integer":
		return "a whole number"
	case "array":
		return "a list"
	case "object":
		return "an object"
	}
	return "a " + jsonType
}
