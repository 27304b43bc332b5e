package api

import (
	"html/template"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// docs is the human page of the API, made from its OpenAPI description. It
// loads nothing from elsewhere.
func docs(h huma.API) http.HandlerFunc {
	page := template.Must(template.New("docs").Parse(docsPage))
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = page.Execute(w, describe(h.OpenAPI())) // the client is gone if this fails
	}
}

type docsSection struct {
	Name       string
	Operations []docsOperation
}

type docsOperation struct {
	Method, Path, Summary, Description string
	Parameters                         []docsParameter
}

type docsParameter struct{ Name, In, Description string }

func describe(o *huma.OpenAPI) []docsSection {
	byTag := map[string][]docsOperation{}
	for path, item := range o.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Delete} {
			if op == nil || len(op.Tags) == 0 {
				continue
			}
			d := docsOperation{Method: op.Method, Path: path, Summary: op.Summary, Description: op.Description}
			for _, p := range op.Parameters {
				d.Parameters = append(d.Parameters, docsParameter{p.Name, p.In, p.Description})
			}
			byTag[op.Tags[0]] = append(byTag[op.Tags[0]], d)
		}
	}
	var out []docsSection
	for tag, ops := range byTag {
		slices.SortFunc(ops, func(a, b docsOperation) int {
			return strings.Compare(a.Path+a.Method, b.Path+b.Method)
		})
		out = append(out, docsSection{tag, ops})
	}
	slices.SortFunc(out, func(a, b docsSection) int { return strings.Compare(a.Name, b.Name) })
	return out
}

const docsPage = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Behalf API</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; background: #fff }
code { font: 14px/1.4 ui-monospace, monospace } h2 { margin-top: 2.5rem; border-bottom: 1px solid #d0d7de }
.op { margin: 1rem 0 } .method { display: inline-block; min-width: 4.5em; font-weight: 600 } dl { margin: .3rem 0 0 5rem } dt { font-weight: 600 } dd { margin: 0 0 .3rem }
@media (prefers-color-scheme: dark) { body { color: #e6edf3; background: #0d1117 } h2 { border-color: #30363d } }
</style></head><body>
<h1>Behalf API</h1>
<p>Authenticate with <code>Authorization: Bearer KEY</code>, where KEY is the admin key or a credential's secret, or with Basic and a credential's username and secret.
Errors are problem documents (RFC 9457). The machine-readable description is <a href="/openapi.json">openapi.json</a>.</p>
{{range .}}<h2>{{.Name}}</h2>
{{range .Operations}}<div class="op"><span class="method">{{.Method}}</span> <code>{{.Path}}</code><br>{{.Summary}}{{with .Description}}. {{.}}{{end}}
{{with .Parameters}}<dl>{{range .}}<dt><code>{{.Name}}</code> ({{.In}})</dt><dd>{{.Description}}</dd>{{end}}</dl>{{end}}</div>
{{end}}{{end}}</body></html>
`
