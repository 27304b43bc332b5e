package policy

import (
	"reflect"
	"strings"
)

// Schema is the JSON schema (2020-12) of what a stage's rules see as input, made
// from the input's Go type; nil for a package that is no stage. A field that is
// not required is there only at times.
func Schema(pkg string) map[string]any {
	i := stageOf(pkg)
	if i < 0 {
		return nil
	}
	s := schemaOf(reflect.TypeOf(stages()[i].input()).Elem())
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "input of package " + pkg
	return s
}

// typeSchema is the schema for OPA's type checker, which knows draft 7 only. It is
// not to be changed.
func typeSchema(i int) map[string]any { return typeSchemas[i] }

// typeSchemas are made once, without what is for people: OPA reads them each time
// it compiles.
var typeSchemas = func() (all [stageCount]map[string]any) {
	for i, s := range stages() {
		all[i] = schemaOf(reflect.TypeOf(s.input()).Elem())
		terse(all[i])
	}
	return all
}()

// terse takes from a schema what does not tell types.
func terse(schema map[string]any) {
	delete(schema, "description")
	delete(schema, "required")
	if items, ok := schema["items"].(map[string]any); ok {
		terse(items)
	}
	if others, ok := schema["additionalProperties"].(map[string]any); ok {
		terse(others)
	}
	properties, _ := schema["properties"].(map[string]any)
	for _, p := range properties {
		terse(p.(map[string]any))
	}
}

func schemaOf(t reflect.Type) map[string]any {
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64, reflect.Uint32:
		return map[string]any{"type": "integer"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Array: // a pair
		item := schemaOf(t.Elem())
		return map[string]any{"type": "array", "items": item, "minItems": t.Len(), "maxItems": t.Len()}
	case reflect.Struct:
		return objectSchema(t)
	}
	panic("policy: no schema for " + t.String()) // a field of a type that no test has seen
}

func objectSchema(t reflect.Type) map[string]any {
	properties, required := map[string]any{}, []any{}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			embedded := objectSchema(f.Type)
			for name, s := range embedded["properties"].(map[string]any) {
				properties[name] = s
			}
			required = append(required, embedded["required"].([]any)...)
			continue
		}
		name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "" {
			continue
		}
		s := schemaOf(f.Type)
		s["description"] = f.Tag.Get("doc")
		properties[name] = s
		if option != "omitempty" {
			required = append(required, name)
		}
	}
	return map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
}
