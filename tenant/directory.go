package tenant

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"strings"

	"behalf/internal/keyring"
	"behalf/internal/kv"
	"behalf/mail"
)

// Errors of the directory. They are wrapped; compare with errors.Is.
var (
	// ErrNotFound is returned for what does not exist, and for what exists but
	// is none of the caller's business.
	ErrNotFound = errors.New("not found")
	// ErrConflict is returned when the resource has changed meanwhile.
	ErrConflict = errors.New("changed meanwhile")
	// ErrForbidden is returned for what the caller can see but may not do.
	ErrForbidden = errors.New("not allowed")
	// ErrAuth is returned by every failed authentication; its text is for the
	// log, not for the client.
	ErrAuth = errors.New("authentication failed")
)

// Options of a Directory.
type Options struct {
	PlatformDomain  string          // refused as a tenant's domain, with all below it
	SendingDomain   string          // likewise; its keys are tenant 0's
	PlatformRoute   bool            // there is a platform smart host: part of default routes
	DefaultUpstream mail.UpstreamID // instead of mx in default routes, e.g. mailbox in development
	Log             *slog.Logger
}

// Directory keeps tenants and all that belongs to them.
type Directory struct{}

var errSoon = errors.New("tenant: not built yet")

// Open reads the directory from st.
func Open(ctx context.Context, st kv.Store, kr *keyring.Keyring, o Options) (*Directory, error) {
	return nil, errSoon
}

// Run writes down lazily when credentials were used, until ctx ends.
func (d *Directory) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// View gives what is known of a tenant now; tenant 0 is the platform itself.
func (d *Directory) View(ctx context.Context, id mail.TenantID) (*View, error) { return nil, errSoon }

// ViewByName is View by the tenant's name.
func (d *Directory) ViewByName(ctx context.Context, name string) (*View, error) { return nil, errSoon }

// Authenticate checks a username (acme/app, platform/app) and its secret.
func (d *Directory) Authenticate(ctx context.Context, username, secret string) (*Credential, error) {
	return nil, errSoon
}

// AuthenticateBearer finds the credential that has this secret.
func (d *Directory) AuthenticateBearer(ctx context.Context, secret string) (*Credential, error) {
	return nil, errSoon
}

// ScramVerifier is what a server needs to check SCRAM-SHA-256 (RFC 5802).
type ScramVerifier struct {
	Salt       []byte
	Iterations int
	StoredKey  []byte
	ServerKey  []byte
}

// Scram gives the verifier of a username; for an unknown one a false one, the
// same each time, that no secret fits.
func (d *Directory) Scram(ctx context.Context, username string) (ScramVerifier, error) {
	return ScramVerifier{}, errSoon
}

// Authenticated gives the credential of a username whose secret was proved by
// SCRAM; it checks that it still exists and has not expired.
func (d *Directory) Authenticated(ctx context.Context, username string) (*Credential, error) {
	return nil, errSoon
}

// MayActFor reports whether the credential may act for the named tenant.
func (d *Directory) MayActFor(c *Credential, tenantName string) bool { return false }

// Signer gives the private key of a selector.
func (d *Directory) Signer(ctx context.Context, sel mail.Selector) (crypto.Signer, error) {
	return nil, errSoon
}

// Password gives the password of a tenant's connection.
func (d *Directory) Password(ctx context.Context, t mail.TenantID, connection string) (string, error) {
	return "", errSoon
}

// EnsurePlatform makes domain the sending domain of the platform, with the
// keys given, or with an RSA-2048 and an Ed25519 key made when there are none.
func (d *Directory) EnsurePlatform(ctx context.Context, domain string, keys []DKIMKey) error {
	return errSoon
}

// PlatformKeys gives the keys of the sending domain.
func (d *Directory) PlatformKeys(ctx context.Context) ([]DKIMKey, error) { return nil, errSoon }

// Activate records that the tenant's key was seen in the DNS of its domain:
// from then on no other tenant can prove or be given that domain.
func (d *Directory) Activate(ctx context.Context, t mail.TenantID, domain string) error {
	return errSoon
}

// Actor is who does something to resources.
type Actor struct {
	Name    string   // for the record: a username, "admin"
	Admin   bool     // may do anything
	Tenants []string // names of tenants it may act for; ["*"] for all
	Scope   string   // of its credential: tenant or platform
}

// ActorOf is the actor that a credential is.
func ActorOf(c *Credential) Actor {
	t := c.Tenants
	if c.Scope != "platform" {
		t = []string{c.Tenant}
	}
	return Actor{Name: c.Username, Tenants: t, Scope: c.Scope}
}

// Ref names one resource, or, without Name, all of a kind.
type Ref struct {
	Kind   Kind
	Tenant string // empty for kind tenant and platform credentials
	Name   string
}

// Change says what an Apply did.
type Change string

// The changes.
const (
	Created   Change = "created"
	Updated   Change = "updated"
	Unchanged Change = "unchanged"
)

// Page asks for a part of a list.
type Page struct {
	Cursor string // Next of the page before; empty for the first
	Limit  int    // default 100, at most 1000
}

// List is a part of a list.
type List struct {
	Items []any  `json:"items"` // *Tenant, *Credential, *Domain, *Identity, *Connection
	Next  string `json:"next,omitempty"`
}

// Apply makes the resource be as raw says (strict JSON with its kind). The
// result is the resource as it is then; a generated secret is in it once.
func (d *Directory) Apply(ctx context.Context, raw json.RawMessage, by Actor, ifMatch uint64) (any, Change, error) {
	return nil, "", errSoon
}

// ApplyResource is Apply for *Tenant, *Credential, *Domain, *Identity or
// *Connection.
func (d *Directory) ApplyResource(ctx context.Context, r any, by Actor, ifMatch uint64) (any, Change, error) {
	return nil, "", errSoon
}

// Get gives one resource, without secrets.
func (d *Directory) Get(ctx context.Context, by Actor, ref Ref) (any, error) { return nil, errSoon }

// List gives resources of a kind: of the tenant that ref names, or of all that
// the actor may act for.
func (d *Directory) List(ctx context.Context, by Actor, ref Ref, p Page) (List, error) {
	return List{}, errSoon
}

// Delete removes a resource; a tenant goes with all that it has.
func (d *Directory) Delete(ctx context.Context, by Actor, ref Ref, ifMatch uint64) error {
	return errSoon
}

// Allows reports whether the credential may be used from addr.
func (c *Credential) Allows(addr netip.Addr) bool { return false }

// SplitUsername takes the tenant off a username such as platform/app+acme.
func SplitUsername(username string) (name, tenantName string) {
	name, tenantName, _ = strings.Cut(username, "+")
	return name, tenantName
}

// View is what is known of one tenant at one time. It never changes.
type View struct {
	Tenant Tenant
}

// Identity finds the identity for an address: the address itself, else *@domain.
func (v *View) Identity(a mail.Address) (*Identity, bool) { return nil, false }

// Domain finds a domain of the tenant by its exact name.
func (v *View) Domain(name string) (*Domain, bool) { return nil, false }

// DomainFor finds the tenant's domain for a From domain: itself or its closest
// parent.
func (v *View) DomainFor(from string) (*Domain, bool) { return nil, false }

// Connection finds a connection by name.
func (v *View) Connection(name string) (*Connection, bool) { return nil, false }

// Route is the tenant's route, with the default where it has none.
func (v *View) Route() []Way { return nil }

// Methods are the tenant's methods in order, with the default where it has none.
func (v *View) Methods() []mail.Method { return nil }

// ValidationError lists what is wrong with a resource, field by field.
type ValidationError struct{ Fields []FieldError }

// FieldError is one fault.
type FieldError struct {
	Field   string `json:"field"` // as in the JSON, e.g. smtp.port
	Message string `json:"message"`
}

func (e *ValidationError) Error() string {
	var s []string
	for _, f := range e.Fields {
		s = append(s, f.Field+": "+f.Message)
	}
	return strings.Join(s, "; ")
}

// ResolveSecrets replaces file:PATH and env:NAME values of the secret fields
// of a resource by what they name; relative paths are taken from baseDir.
func ResolveSecrets(raw json.RawMessage, baseDir string) (json.RawMessage, error) {
	return nil, errSoon
}
