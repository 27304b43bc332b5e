package tenant

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxResource is the largest resource that is taken, in octets of JSON.
const maxResource = 256 << 10

// resource is what *Tenant, *Credential, *Domain, *Identity and *Connection
// have in common.
type resource interface {
	meta() *Meta
	kind() Kind
	// key is the name within its tenant and kind.
	key() string
	// check fills in defaults, brings values into their one form and reports
	// what is wrong. It needs nothing but the resource.
	check(f *faults)
	// clear drops the fields that only the directory sets.
	clear()
}

func (m *Meta) meta() *Meta { return m }

func (*Tenant) kind() Kind     { return KindTenant }
func (*Credential) kind() Kind { return KindCredential }
func (*Domain) kind() Kind     { return KindDomain }
func (*Identity) kind() Kind   { return KindIdentity }
func (*Connection) kind() Kind { return KindConnection }

func (*Tenant) key() string       { return "" } // t/T/tenant/: the name stands in u/tenant
func (c *Credential) key() string { return c.Name }
func (d *Domain) key() string     { return d.Name }
func (i *Identity) key() string   { return i.Address }
func (c *Connection) key() string { return c.Name }

func newResource(k Kind) resource {
	switch k {
	case KindTenant:
		return new(Tenant)
	case KindCredential:
		return new(Credential)
	case KindDomain:
		return new(Domain)
	case KindIdentity:
		return new(Identity)
	case KindConnection:
		return new(Connection)
	}
	return nil
}

// Decode reads a resource from strict JSON: its kind must be known and so must
// every field. A kind in raw may be left out when k is given, and must be equal
// to it otherwise. The result is a *Tenant, *Credential, *Domain, *Identity or
// *Connection, as it stands in raw; Apply checks it.
func Decode(raw json.RawMessage, k Kind) (any, error) {
	return decode(raw, k)
}

func decode(raw []byte, k Kind) (resource, error) {
	if len(raw) > maxResource {
		return nil, invalid("", "larger than %d KiB", maxResource>>10)
	}
	var head struct {
		Kind Kind `json:"kind"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, explain(err)
	}
	if head.Kind == "" {
		head.Kind = k
	}
	if k != "" && head.Kind != k {
		return nil, invalid("kind", "is %q; want %q", head.Kind, k)
	}
	r := newResource(head.Kind)
	if r == nil {
		return nil, invalid("kind", "%q is not known; want tenant, credential, domain, identity or connection", head.Kind)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(r); err != nil {
		return nil, explain(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, invalid("", "text after the object")
	}
	r.meta().Kind = head.Kind
	return r, nil
}

func invalid(field, format string, args ...any) error {
	return &ValidationError{[]FieldError{{field, fmt.Sprintf(format, args...)}}}
}

// explain turns an error of encoding/json into one about a field.
func explain(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return invalid(wrong.Field, "is a %s; want %s", wrong.Value, jsonName(wrong.Type.Kind().String()))
	}
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return invalid(strings.Trim(field, `"`), "is not known")
	}
	return invalid("", "%s", strings.TrimPrefix(err.Error(), "json: "))
}

func jsonName(goKind string) string {
	switch goKind {
	case "slice":
		return "a list"
	case "struct", "map", "ptr":
		return "an object"
	case "bool":
		return "true or false"
	case "string":
		return "a string"
	}
	return "a number"
}
