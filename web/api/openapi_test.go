package api_test

import (
	"encoding/json"
	"slices"
	"strings"
)

// description is what the tests read of an OpenAPI document.
type description struct {
	OpenAPI    string                           `json:"openapi"`
	Paths      map[string]map[string]*operation `json:"paths"`
	Components struct {
		Schemas map[string]json.RawMessage `json:"schemas"`
	} `json:"components"`
}

type operation struct {
	ID         string                      `json:"operationId"`
	Summary    string                      `json:"summary"`
	Tags       []string                    `json:"tags"`
	Parameters []struct{ Name, In string } `json:"parameters"`
	Responses  map[string]struct {
		Ref     string                     `json:"$ref"`
		Content map[string]json.RawMessage `json:"content"`
	} `json:"responses"`
}

// operations lists "METHOD /path" of everything that the API describes.
func (w *world) operations() (description, []string) {
	w.t.Helper()
	d := into[description](w.t, w.get("", "/openapi.json").want(w.t, 200))
	var all []string
	for path, item := range d.Paths {
		for method := range item {
			all = append(all, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(all)
	return d, all
}
