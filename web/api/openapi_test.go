package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"behalf/mail"
	"behalf/web/api"
)

var update = flag.Bool("update", false, "write docs/openapi.json")

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

// The description in docs/ is that of this API, whole and valid. After a change
// "go test ./web/api -run OpenAPI -update" writes it anew.
func TestOpenAPI(t *testing.T) {
	w := newWorld(t)
	a := w.get("", "/openapi.json").want(t, 200)
	d := into[description](t, a)
	if !strings.HasPrefix(d.OpenAPI, "3.1") {
		t.Errorf("OpenAPI %s", d.OpenAPI)
	}
	ids := map[string]bool{}
	for path, item := range d.Paths {
		for method, op := range item {
			op.check(t, method, path)
			if ids[op.ID] {
				t.Errorf("%s stands there twice", op.ID)
			}
			ids[op.ID] = true
		}
	}
	for ref := range strings.SplitSeq(string(a.body), `"$ref":"#/components/schemas/`) {
		name, _, _ := strings.Cut(ref, `"`)
		if !strings.HasPrefix(ref, "{") && d.Components.Schemas[name] == nil {
			t.Errorf("no schema %s", name)
		}
	}
	var text bytes.Buffer
	if err := json.Indent(&text, a.body, "", "  "); err != nil {
		t.Fatal(err)
	}
	text.WriteByte('\n')
	const file = "../../docs/openapi.json"
	if *update {
		if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(file); err != nil || !bytes.Equal(have, text.Bytes()) {
		t.Errorf("docs/openapi.json is not what the API says of itself (%v); run this test with -update and review the difference", err)
	}
}

// check demands of an operation what a client's author needs.
func (o *operation) check(t *testing.T, method, path string) {
	t.Helper()
	if o.ID == "" || o.Summary == "" || len(o.Tags) != 1 {
		t.Errorf("%s %s: wants an operationId, a summary and one tag", method, path)
	}
	if _, ok := o.Responses["default"].Content["application/problem+json"]; !ok {
		t.Errorf("%s %s: does not say what its errors look like", method, path)
	}
	good := 0
	for status, r := range o.Responses {
		if !strings.HasPrefix(status, "2") {
			continue
		}
		if good++; status != "204" && len(r.Content) == 0 {
			t.Errorf("%s %s: does not say what %s holds", method, path, status)
		}
		if _, ok := r.Content["application/octet-stream"]; ok {
			t.Errorf("%s %s: %s is said to be octets", method, path, status)
		}
	}
	if good == 0 {
		t.Errorf("%s %s: has no good answer", method, path)
	}
	for rest := path; ; {
		_, after, ok := strings.Cut(rest, "{")
		if !ok {
			break
		}
		name, tail, _ := strings.Cut(after, "}")
		if !slices.ContainsFunc(o.Parameters, func(p struct{ Name, In string }) bool { return p.Name == name && p.In == "path" }) {
			t.Errorf("%s %s: {%s} is not described", method, path, name)
		}
		rest = tail
	}
}

// schemaOf compiles one schema of the description (JSON Schema 2020-12).
func schemaOf(t *testing.T, document any, name string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	if err := c.AddResource("openapi.json", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("openapi.json#/components/schemas/" + name)
	if err != nil {
		t.Fatalf("schema %s: %v", name, err)
	}
	return s
}

// What the API answers is what its description says.
func TestAnswersAsDescribed(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	w.suppress("acme", "gone@elsewhere.example")
	later := w.send("acme-secret", "acme", nil)
	sent := into[api.Accepted](t, w.post("acme-secret", "/v1/messages", draft("acme", "guest@elsewhere.example")).want(t, 202)).ID
	w.state(sent, mail.Delivered)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(w.get("", "/openapi.json").body))
	if err != nil {
		t.Fatal(err)
	}
	d, _ := w.operations()
	for name := range d.Components.Schemas {
		schemaOf(t, document, name)
	}
	for _, c := range []struct {
		schema string
		a      *answer
	}{
		{"Message", w.get("acme-secret", "/v1/messages/"+sent.String())},
		{"Message", w.get(adminKey, "/v1/messages/"+later.String())},
		{"MessagePage", w.get("acme-secret", "/v1/messages")},
		{"Timeline", w.get("acme-secret", "/v1/messages/"+sent.String()+"/events")},
		{"Changed", w.post("acme-secret", "/v1/messages/"+later.String()+"/hold", `{}`)},
		{"Accepted", w.post("acme-secret", "/v1/messages", draft("acme", "other@elsewhere.example"))},
		{"SuppressionPage", w.get("acme-secret", "/v1/suppressions")},
		{"QueueList", w.get("acme-secret", "/v1/queue")},
		{"TenantStats", w.get("acme-secret", "/v1/stats")},
		{"Stats", w.get(adminKey, "/v1/queue/stats")},
		{"PolicyStatus", w.get(adminKey, "/v1/policies")},
		{"Explanation", w.post(adminKey, "/v1/policies/evaluate", `{"tenant":{"id":1,"name":"acme"}}`)},
		{"RecordList", w.get("acme-secret", "/v1/domains/acme.example/records")},
		{"Tenant", w.get("acme-secret", "/v1/tenants/acme")},
		{"Credential", w.get("acme-secret", "/v1/credentials/app")},
		{"Domain", w.get("acme-secret", "/v1/domains/acme.example")},
		{"Identity", w.get("acme-secret", "/v1/identities/support@acme.example")},
		{"Connection", w.get("acme-secret", "/v1/connections/office")},
		{"Problem", w.get("acme-secret", "/v1/tenants/globex")},
		{"Problem", w.get("acme-secret", "/v1/tenants?limit=x")},
		{"Problem", w.get("acme-secret", "/nothing")},
	} {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(c.a.body))
		if err != nil {
			t.Fatal(err)
		}
		if err := schemaOf(t, document, c.schema).Validate(v); err != nil {
			t.Errorf("%s is not a %s: %v", c.a, c.schema, err)
		}
	}
}

// The human page tells of every operation.
func TestDocsPage(t *testing.T) {
	w := newWorld(t)
	page := w.get("", "/docs").want(t, 200)
	if kind := page.header.Get("Content-Type"); kind != "text/html; charset=utf-8" {
		t.Error(kind)
	}
	_, all := w.operations()
	for _, op := range all {
		_, path, _ := strings.Cut(op, " ")
		if !bytes.Contains(page.body, []byte("<code>"+path+"</code>")) {
			t.Errorf("%s is not on the page", op)
		}
	}
	if bytes.Contains(page.body, []byte("<script")) || bytes.Contains(page.body, []byte("https://")) {
		t.Error("the page loads something")
	}
}
