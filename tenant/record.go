package tenant

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"behalf/internal/kv"
)

// record is how a resource is stored: what people see of it, and beside that
// its secrets, sealed, so that showing it can never show them.
type record struct {
	Body   any               `json:"body"`
	Sealed map[string][]byte `json:"sealed,omitempty"` // by field
	MAC    []byte            `json:"mac,omitempty"`    // of a credential's secret
	Active time.Time         `json:"active,omitzero"`  // when a domain's key was first seen in the DNS
}

// Fields of sealed values.
const (
	fieldPassword = "password"
	fieldScram    = "scram"
	fieldDKIM     = "dkim/" // and the selector
)

func unpack(k Kind, value []byte) (resource, *record, error) {
	r := newResource(k)
	rec := record{Body: r} // which is read into it
	if err := json.Unmarshal(value, &rec); err != nil {
		return nil, nil, fmt.Errorf("stored %s is damaged: %w", k, err)
	}
	if d, ok := r.(*Domain); ok {
		d.State = DomainPending
		if d.Verified || !rec.Active.IsZero() {
			d.State = DomainActive
		}
	}
	return r, &rec, nil
}

func (rec *record) pack(r resource) ([]byte, error) {
	if d, ok := r.(*Domain); ok {
		c := *d
		c.State = "" // follows from the record
		r = &c
	}
	rec.Body = r
	b, err := json.Marshal(rec)
	if len(b) > kv.MaxValue {
		return nil, invalid("", "is too large to be stored")
	}
	return b, err
}

// same reports whether a and b say the same, whenever they were written.
func same(a, b resource) bool {
	ja, ea := json.Marshal(timeless(a))
	jb, eb := json.Marshal(timeless(b))
	return ea == nil && eb == nil && bytes.Equal(ja, jb)
}

// timeless is a copy of r without what each write changes.
func timeless(r resource) resource {
	c := clone(r)
	m := c.meta()
	m.Created, m.Updated, m.Revision = time.Time{}, time.Time{}, 0
	if cr, ok := c.(*Credential); ok {
		cr.LastUsed = time.Time{}
	}
	return c
}

// clone copies r one level deep.
func clone(r resource) resource {
	switch r := r.(type) {
	case *Tenant:
		c := *r
		return &c
	case *Credential:
		c := *r
		return &c
	case *Domain:
		c := *r
		return &c
	case *Identity:
		c := *r
		return &c
	case *Connection:
		c := *r
		return &c
	}
	return r
}

// getter is what kv.Reader and kv.Writer have in common.
type getter interface {
	Get(key []byte) ([]byte, error)
}

// load reads a resource; r is nil when there is none.
func load(g getter, key []byte, k Kind) (resource, *record, error) {
	v, err := g.Get(key)
	if errors.Is(err, kv.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading a %s: %w", k, err)
	}
	return unpack(k, v)
}
