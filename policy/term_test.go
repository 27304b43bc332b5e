package policy

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"behalf/mail"
)

// fill sets every field below v to something that is not its zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0))
		fill(v.Index(1))
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"plan": "pro", "team": "x"}))
	case reflect.String:
		v.SetString("text " + v.Type().String())
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(-2.5)
	case reflect.Uint32:
		v.SetUint(1 << 31)
	default:
		v.SetInt(1_790_000_000_123_456_789)
	}
}

// TestTermIsJSON shows that what Rego sees is what the JSON form says, field by
// field, full and empty: what is recorded replays the same.
func TestTermIsJSON(t *testing.T) {
	for _, s := range stages() {
		full := s.input()
		fill(reflect.ValueOf(full).Elem())
		for name, in := range map[string]input{"full": full, "empty": empty(s.input())} {
			raw, err := json.Marshal(in)
			if err != nil {
				t.Fatal(err)
			}
			want, err := ast.ValueFromReader(reader(raw))
			if err != nil {
				t.Fatal(err)
			}
			if got := in.term(allFields).Value; got.Compare(want) != 0 {
				t.Errorf("%s, %s:\n%v\nJSON:\n%v", s.name, name, got, want)
			}
		}
	}
}

// commonOf is what all stages of a submission have.
func commonOf(in input) *SenderInput {
	switch in := in.(type) {
	case *RecipientInput:
		return &in.SenderInput
	case *MessageInput:
		return &in.SenderInput
	}
	return in.(*SenderInput)
}

// empty has no nil pointer and no nil list, as JSON would tell them apart.
func empty(in input) input {
	switch in := in.(type) {
	case *InboundConnectInput:
		in.Session, in.DNSBL = new(Session), []Listing{}
		return in
	case *InboundRecipientInput:
		in.Session, in.DNSBL = new(Session), []Listing{}
		return in
	case *InboundMessageInput:
		in.Session, in.DNSBL, in.Recipients, in.Auth.DKIM, in.Spam.Symbols = new(Session), []Listing{}, []InboundRecipient{}, []DKIM{}, []Symbol{}
		in.Message.Headers, in.Message.Attachments, in.Message.URLHosts = [][2]string{}, []Attachment{}, []string{}
		return in
	}
	c := commonOf(in)
	c.Session, c.Tenant, c.Credential, c.Usage = new(Session), &Tenant{Labels: map[string]string{}, Methods: []mail.Method{}}, new(Credential), new(Usage)
	if m, ok := in.(*MessageInput); ok {
		m.Identity.Methods, m.Candidates = []mail.Method{}, []Candidate{}
		m.Bulk, m.Unusual.Reasons = []Bulk{}, []Points{}
		m.Message.Headers, m.Message.Attachments, m.Message.URLHosts = [][2]string{}, []Attachment{}, []string{}
	}
	return in
}

// TestFieldsAreIndependent shows that leaving out fields leaves out those alone.
func TestFieldsAreIndependent(t *testing.T) {
	for _, s := range stages() {
		in := s.input()
		fill(reflect.ValueOf(in).Elem())
		all := in.term(allFields).Value.(ast.Object)
		for path, want := range schemaPaths(Schema(s.name)) {
			got := in.term(fieldsOf(path[:])).Value
			ref := ast.Ref{ast.StringTerm(path[0])}
			if want {
				ref = append(ref, ast.StringTerm(path[1]))
			}
			a, err1 := all.Find(ref)
			b, err2 := got.Find(ref)
			if err1 != nil || err2 != nil || a.Compare(b) != 0 {
				t.Errorf("%s %v: %v, %v; alone %v, %v", s.name, path, a, err1, b, err2)
			}
		}
	}
}

// schemaPaths are all fields of a schema, one or two names deep (true: two).
func schemaPaths(schema map[string]any) map[[2]string]bool {
	paths := map[[2]string]bool{}
	for name, s := range schema["properties"].(map[string]any) {
		below, _ := s.(map[string]any)["properties"].(map[string]any)
		if below == nil {
			paths[[2]string{name, ""}] = false
		}
		for second := range below {
			paths[[2]string{name, second}] = true
		}
	}
	return paths
}

func TestSchemaIsJSONSchema(t *testing.T) {
	for _, pkg := range Packages() {
		s := Schema(pkg)
		if s["type"] != "object" || s["additionalProperties"] != false {
			t.Errorf("%s: %v", pkg, s)
		}
	}
	if Schema("behalf.nothing") != nil {
		t.Error("a schema for no stage")
	}
}
