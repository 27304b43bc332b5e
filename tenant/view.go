package tenant

import (
	"crypto"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"behalf/internal/kv"
	"behalf/mail"
)

// View is what is known of one tenant at one time. It never changes; nor may
// what its methods give out be changed.
type View struct {
	Tenant Tenant

	credentials map[string]*credential
	domains     map[string]*domain
	identities  map[string]*Identity
	connections map[string]*connection
	route       []Way
	methods     []mail.Method
	size        int // about how much memory it holds, in octets; changed by the cache alone once it is there

	carried atomic.Pointer[any]
}

// Carried is what another package made of the view, see [View.Carry]; nil: nothing
// yet.
func (v *View) Carried() any {
	if x := v.carried.Load(); x != nil {
		return *x
	}
	return nil
}

// Carry gives the view something that was made of it alone, small and of one
// type, to go with it for as long as it holds. Of what several give at once one
// is kept; that is the result.
func (v *View) Carry(x any) any {
	v.carried.CompareAndSwap(nil, &x)
	return v.Carried()
}

type credential struct {
	Credential
	mac   []byte
	scram []byte // sealed
}

type domain struct {
	Domain
	sealed map[string][]byte

	mu      sync.Mutex
	signers map[string]crypto.Signer // opened so far, by selector
}

type connection struct {
	Connection
	password []byte // sealed
}

// Identity finds the identity for an address: the address itself, else
// *@domain.
func (v *View) Identity(a mail.Address) (*Identity, bool) {
	i, ok := v.identities[a.Key()]
	if !ok {
		i, ok = v.identities["*@"+a.Domain]
	}
	return i, ok
}

// Verified reports whether the tenant may put a in From: it has an identity for
// it that an admin verified or whose domain it has proved.
func (v *View) Verified(a mail.Address) bool {
	i, ok := v.Identity(a)
	if !ok {
		return false
	}
	if i.Verified {
		return true
	}
	d, ok := v.DomainFor(a.Domain)
	return ok && d.State == DomainActive
}

// Domain finds a domain of the tenant by its exact name.
func (v *View) Domain(name string) (*Domain, bool) {
	d, ok := v.domains[strings.ToLower(name)]
	if !ok {
		return nil, false
	}
	return &d.Domain, true
}

// DomainFor finds the tenant's domain for a From domain: itself or its closest
// parent.
func (v *View) DomainFor(from string) (*Domain, bool) {
	for name := strings.ToLower(from); name != ""; _, name, _ = strings.Cut(name, ".") {
		if d, ok := v.domains[name]; ok {
			return &d.Domain, true
		}
	}
	return nil, false
}

// Connection finds a connection by name.
func (v *View) Connection(name string) (*Connection, bool) {
	c, ok := v.connections[name]
	if !ok {
		return nil, false
	}
	return &c.Connection, true
}

// Route is the tenant's route, with the default where it has none.
func (v *View) Route() []Way { return v.route }

// Methods are the tenant's methods in order, with the default where it has none.
func (v *View) Methods() []mail.Method { return v.methods }

// DefaultAddressPerDay is the cap of method address where a tenant has none.
const DefaultAddressPerDay = 200

// AddressPerDay caps what method address may send in 24 hours.
func (v *View) AddressPerDay() int {
	if v.Tenant.AddressPerDay == 0 {
		return DefaultAddressPerDay
	}
	return v.Tenant.AddressPerDay
}

// defaultMethods is the order for tenants without one.
var defaultMethods = []mail.Method{mail.MethodDomain, mail.MethodConnection, mail.MethodName}

// About how much memory things hold, in octets.
const (
	viewSize     = 640
	resourceSize = 256  // besides its record, and a quarter of that
	signerSize   = 4096 // of a key that was opened
)

// loadView reads all that a tenant has; it wraps ErrNotFound if there is no
// such tenant.
func (d *Directory) loadView(r kv.Reader, id mail.TenantID) (*View, error) {
	v := &View{
		credentials: map[string]*credential{},
		domains:     map[string]*domain{},
		identities:  map[string]*Identity{},
		connections: map[string]*connection{},
		size:        viewSize,
	}
	found := id == 0
	if found {
		v.Tenant = Tenant{Meta: Meta{Kind: KindTenant}, Name: PlatformName}
	}
	var failed error
	err := r.Scan(kv.Range{Prefix: tenantPrefix(id)}, func(key, value []byte) bool {
		k, _, ok := parseResourceKey(key)
		if !ok || newResource(k) == nil {
			return true // it is about a resource, as when it was used
		}
		found = found || k == KindTenant
		failed = v.add(k, value)
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, fmt.Errorf("reading tenant %d: %w", id, err)
	}
	if !found {
		return nil, fmt.Errorf("tenant %d: %w", id, ErrNotFound)
	}
	v.route, v.methods = v.Tenant.Route, v.Tenant.Methods
	if len(v.route) == 0 {
		v.route = d.defaultRoute
	}
	if len(v.methods) == 0 {
		v.methods = defaultMethods
	}
	return v, nil
}

func (v *View) add(k Kind, value []byte) error {
	r, rec, err := unpack(k, value)
	if err != nil {
		return err
	}
	v.size += len(value)*5/4 + resourceSize
	switch r := r.(type) {
	case *Tenant:
		v.Tenant = *r
	case *Credential:
		v.credentials[r.Name] = &credential{Credential: *r, mac: rec.MAC, scram: rec.Sealed[fieldScram]}
	case *Domain:
		v.domains[r.Name] = &domain{Domain: *r, sealed: rec.Sealed}
	case *Identity:
		v.identities[r.Address] = r
	case *Connection:
		v.connections[r.Name] = &connection{Connection: *r, password: rec.Sealed[fieldPassword]}
	}
	return nil
}
