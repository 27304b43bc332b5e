package tenant

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"behalf/internal/kv"
	"behalf/mail"
)

// Bounds of a page.
const (
	defaultPage = 100
	maxPage     = 1000
	maxWalked   = 10_000 // tenants looked through for one answer
)

// Page asks for a part of a list.
type Page struct {
	Cursor string // Next of the page before; empty for the first
	Limit  int    // default 100, at most 1000
}

// List is a part of a list, by tenant and then by name.
type List struct {
	Items []any  `json:"items"`          // *Tenant, *Credential, *Domain, *Identity, *Connection
	Next  string `json:"next,omitempty"` // empty on the last page; other pages may be short
}

// normal brings a ref into the form that the store has.
func (r Ref) normal(by Actor) (Ref, error) {
	if newResource(r.Kind) == nil {
		return r, fmt.Errorf("kind %q: %w", clip(string(r.Kind)), ErrNotFound)
	}
	r.Name = strings.ToLower(strings.TrimSuffix(r.Name, "."))
	switch r.Kind {
	case KindTenant:
		if r.Tenant != "" && r.Name == "" {
			r.Name = r.Tenant
		}
		r.Tenant = r.Name
		return r, nil
	case KindCredential:
		if t, name, ok := strings.Cut(r.Name, "/"); ok && (r.Tenant == "" || r.Tenant == t) {
			r.Tenant, r.Name = t, name
		}
	case KindIdentity:
		if a, err := mail.ParseAddress(r.Name); err == nil {
			r.Name = a.Key()
		}
	}
	if r.Tenant == "" {
		r.Tenant = by.home()
	}
	return r, nil
}

// Get gives one resource, without secrets: *Tenant, *Credential and so on. What
// by may not see is ErrNotFound.
func (d *Directory) Get(ctx context.Context, by Actor, ref Ref) (any, error) {
	ref, err := ref.normal(by)
	if err != nil {
		return nil, err
	}
	if ref.Name == "" {
		return nil, ref.missing()
	}
	if ref, err = d.locate(ctx, by, ref); err != nil {
		return nil, err
	}
	var out any
	err = d.store.View(ctx, func(r kv.Reader) error {
		found, err := d.read(r, ref)
		out = found
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// read gives the resource that a complete ref names.
func (d *Directory) read(r kv.Reader, ref Ref) (any, error) {
	id, err := readTenantID(r, ref.Tenant)
	if err != nil {
		return nil, err
	}
	name := ref.Name
	if ref.Kind == KindTenant {
		name = ""
	}
	res, _, err := load(r, resourceKey(id, ref.Kind, name), ref.Kind)
	if err != nil {
		return nil, err
	}
	if res == nil {
		return nil, ref.missing()
	}
	if c, ok := res.(*Credential); ok {
		c.LastUsed = lastUsed(r, id, c.Name)
	}
	return shown(res), nil
}

// locate finds whose resource ref means, among the tenants that by may act for.
func (d *Directory) locate(ctx context.Context, by Actor, ref Ref) (Ref, error) {
	if ref.Tenant != "" {
		if !by.may(ref.Tenant) {
			return ref, ref.missing()
		}
		return ref, nil
	}
	var found []string
	err := d.store.View(ctx, func(r kv.Reader) error {
		walked := 0
		return d.owners(r, by, "", func(name string, id mail.TenantID) (bool, error) {
			_, err := r.Get(resourceKey(id, ref.Kind, ref.Name))
			if err == nil {
				found = append(found, name)
			} else if !notFound(err) {
				return false, err
			}
			walked++
			return walked < maxWalked && len(found) < 2, nil
		})
	})
	switch {
	case err != nil:
		return ref, err
	case len(found) == 0:
		return ref, ref.missing()
	case len(found) > 1:
		return ref, fmt.Errorf("%s: %w", ref, ErrAmbiguous)
	}
	ref.Tenant = found[0]
	return ref, nil
}

// owners calls fn for the platform (for admins) and each tenant that by may act
// for, in the order of their names from the one named from on, until fn returns
// false. The platform comes first, as the empty name.
func (d *Directory) owners(r kv.Reader, by Actor, from string, fn func(name string, id mail.TenantID) (bool, error)) error {
	if by.Admin && from == "" {
		if more, err := fn(PlatformName, 0); err != nil || !more {
			return err
		}
	}
	if !by.Admin && !slices.Contains(by.Tenants, "*") {
		names := slices.Clone(by.Tenants)
		slices.Sort(names)
		for _, name := range names {
			if name < from || !by.may(name) {
				continue
			}
			id, err := readTenantID(r, name)
			if notFound(err) {
				continue
			}
			if err != nil {
				return err
			}
			if more, err := fn(name, id); err != nil || !more {
				return err
			}
		}
		return nil
	}
	var failed error
	err := r.Scan(kv.Range{Prefix: nameKey(""), From: nameKey(from)}, func(key, value []byte) bool {
		name := string(key[len("u/tenant/"):])
		id, ok := parseNumber(value)
		if !ok || !by.may(name) {
			return true
		}
		more, err := fn(name, id)
		failed = err
		return more && err == nil
	})
	if err == nil {
		err = failed
	}
	return err
}

// List gives resources of a kind: of the tenant that ref names, or of all that
// by may act for. A tenant that by may not see is ErrNotFound.
func (d *Directory) List(ctx context.Context, by Actor, ref Ref, p Page) (List, error) {
	name := ref.Name
	ref.Name = ""
	ref, err := ref.normal(by)
	if err != nil {
		return List{}, err
	}
	if name != "" {
		return List{}, invalid("name", "a list has none")
	}
	if ref.Tenant != "" && !by.may(ref.Tenant) {
		return List{}, fmt.Errorf("tenant %q: %w", clip(ref.Tenant), ErrNotFound)
	}
	if p.Limit <= 0 {
		p.Limit = defaultPage
	}
	l := &lister{d: d, by: by, ref: ref, limit: min(p.Limit, maxPage), out: List{Items: []any{}}}
	if err := l.seek(p.Cursor); err != nil {
		return List{}, err
	}
	if err := d.store.View(ctx, l.run); err != nil {
		return List{}, fmt.Errorf("listing %s: %w", ref.Kind, err)
	}
	return l.out, nil
}

// lister fills one page.
type lister struct {
	d         *Directory
	by        Actor
	ref       Ref
	limit     int
	out       List
	afterName string // tenant to go on with
	afterKey  string // and the resource there after which to go on
}

// seek takes a cursor apart: the tenant (empty for the platform), and the name
// of the last resource that was listed there.
func (l *lister) seek(cursor string) error {
	if cursor == "" {
		return nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	name, key, ok := strings.Cut(string(b), "\x00")
	if err != nil || !ok || len(b) > 1000 {
		return invalid("cursor", "is not one that a list gave")
	}
	l.afterName, l.afterKey = name, key
	return nil
}

// stop ends the page: the next one goes on after the resource key of a tenant.
func (l *lister) stop(id mail.TenantID, name, key string) {
	if id == 0 {
		name = ""
	}
	l.out.Next = base64.RawURLEncoding.EncodeToString([]byte(name + "\x00" + key))
}

func (l *lister) run(r kv.Reader) error {
	l.out = List{Items: []any{}}
	if l.ref.Tenant != "" {
		id, err := readTenantID(r, l.ref.Tenant)
		if err != nil {
			return err
		}
		_, err = l.tenant(r, l.ref.Tenant, id)
		return err
	}
	walked := 0
	return l.d.owners(r, l.by, l.afterName, func(name string, id mail.TenantID) (bool, error) {
		if walked++; walked > maxWalked {
			l.stop(id, name, "")
			return false, nil
		}
		return l.tenant(r, name, id)
	})
}

// tenant adds what one tenant has of the kind; more is false when the page is
// full.
func (l *lister) tenant(r kv.Reader, name string, id mail.TenantID) (more bool, err error) {
	rng := kv.Range{Prefix: kindPrefix(id, l.ref.Kind)}
	last := "" // listed of this tenant
	if l.afterKey != "" && (name == l.afterName || id == 0 && l.afterName == "") {
		last = l.afterKey
		rng.From = resourceKey(id, l.ref.Kind, last)
	}
	more = true
	var failed error
	err = r.Scan(rng, func(key, value []byte) bool {
		_, item, _ := parseResourceKey(key)
		if item == last && last != "" {
			return true
		}
		if len(l.out.Items) == l.limit {
			l.stop(id, name, last)
			more = false
			return false
		}
		var res resource
		if res, _, failed = unpack(l.ref.Kind, value); failed != nil {
			return false
		}
		if c, ok := res.(*Credential); ok {
			c.LastUsed = lastUsed(r, id, c.Name)
		}
		l.out.Items = append(l.out.Items, shown(res))
		last = item
		return true
	})
	if err == nil {
		err = failed
	}
	return more, err
}
