package tenant

import (
	"fmt"
	"slices"
)

// Actor is who does something to resources. The zero Actor may do nothing.
type Actor struct {
	Name    string   // for the record: a username, "admin"
	Admin   bool     // may do anything
	Tenants []string // names of tenants it may act for; ["*"] for all
	Scope   string   // of its credential: tenant or platform
}

// ActorOf is the actor that a credential is.
func ActorOf(c *Credential) Actor {
	a := Actor{Name: c.Username, Tenants: c.Tenants, Scope: c.Scope}
	if c.Scope != ScopePlatform {
		a.Scope, a.Tenants = ScopeTenant, []string{c.Tenant}
	}
	return a
}

// May reports whether a may act for the named tenant.
func (a Actor) May(name string) bool { return a.may(name) }

func (a Actor) may(name string) bool {
	switch {
	case a.Admin:
		return true
	case name == "" || name == PlatformName || name == "*":
		return false
	case slices.Contains(a.Tenants, name):
		return true
	}
	return a.Scope == ScopePlatform && len(a.Tenants) == 1 && a.Tenants[0] == "*"
}

// home is the one tenant that a can mean when it names none.
func (a Actor) home() string {
	if !a.Admin && len(a.Tenants) == 1 && a.Tenants[0] != "*" {
		return a.Tenants[0]
	}
	return ""
}

// Ref names one resource, or, without Name, all of a kind.
type Ref struct {
	Kind Kind
	// Tenant is the owner's name, "platform" for the platform itself. It may be
	// empty: for kind tenant, when the actor has just one tenant, and when only
	// one tenant has a resource of that name.
	Tenant string
	Name   string // of a credential also its username
}

func (r Ref) String() string {
	if r.Tenant == "" {
		return string(r.Kind) + " " + clip(r.Name)
	}
	return fmt.Sprintf("%s %s of %s", r.Kind, clip(r.Name), clip(r.Tenant))
}

func (r Ref) missing() error { return fmt.Errorf("%s: %w", r, ErrNotFound) }

// owner is the tenant that r belongs to, by name.
func owner(r resource) string {
	switch r := r.(type) {
	case *Tenant:
		return r.Name
	case *Credential:
		if r.Scope == ScopePlatform {
			return PlatformName
		}
	}
	return r.meta().Tenant
}

// mayWrite says whether a may make, change or delete a resource of that kind
// and owner: ErrNotFound where a must not even know of it.
func (a Actor) mayWrite(k Kind, owner string) error {
	if !a.may(owner) {
		return fmt.Errorf("tenant %q: %w", clip(owner), ErrNotFound)
	}
	switch {
	case a.Admin:
		return nil
	case k == KindTenant:
		return fmt.Errorf("tenants are changed with the admin key: %w", ErrForbidden)
	case k == KindCredential && a.Scope != ScopePlatform:
		return fmt.Errorf("credentials are made and removed with the admin key or by a platform credential: %w", ErrForbidden)
	}
	return nil
}
