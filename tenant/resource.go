// Package tenant is the directory: tenants and what belongs to each of them,
// credentials, domains with their keys, identities and connections. Resources
// have the same fields as in the API and in the files of "behalf apply".
package tenant

import (
	"time"

	"behalf/mail"
)

// Kind names a sort of resource, as in "kind: tenant".
type Kind string

// The kinds.
const (
	KindTenant     Kind = "tenant"
	KindCredential Kind = "credential"
	KindDomain     Kind = "domain"
	KindIdentity   Kind = "identity"
	KindConnection Kind = "connection"
)

// Meta is what every resource has besides the fields its owner gives.
type Meta struct {
	Kind     Kind      `json:"kind"`
	Tenant   string    `json:"tenant,omitempty"` // name of the owner; empty for tenants and platform credentials
	Created  time.Time `json:"created,omitzero"`
	Updated  time.Time `json:"updated,omitzero"`
	Revision uint64    `json:"revision,omitempty"` // grows with each change; the ETag
}

// Tenant is one customer of the platform.
type Tenant struct {
	Meta
	ID              mail.TenantID     `json:"id,omitempty"` // given once, never used again
	Name            string            `json:"name"`
	DisplayName     string            `json:"display_name,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	Methods         []mail.Method     `json:"methods,omitempty"` // default domain, connection, name
	AllowFromChange bool              `json:"allow_from_change,omitempty"`
	Notify          string            `json:"notify,omitempty"`
	Route           []Way             `json:"route,omitempty"` // default: mx, then platform where there is one
	Suspended       *Suspension       `json:"suspended,omitempty"`
	// AddressPerDay caps what method address may send in 24 hours; 0 is the
	// default of 200.
	AddressPerDay int `json:"address_per_day,omitempty"`
}

// Suspension stops a tenant's mail at the door.
type Suspension struct {
	Reason string    `json:"reason"`
	Until  time.Time `json:"until,omitzero"` // zero: until lifted
	By     string    `json:"by,omitempty"`
}

// Way is one step of a route: a connection of the tenant or an upstream that
// every tenant has. Exactly one field is set.
type Way struct {
	Connection string          `json:"connection,omitempty"`
	Upstream   mail.UpstreamID `json:"upstream,omitempty"` // mx, platform, mailbox
}

// ID is the upstream that the way names.
func (w Way) ID() mail.UpstreamID {
	if w.Connection != "" {
		return mail.UpstreamID(mail.ConnectionPrefix + w.Connection)
	}
	return w.Upstream
}

// Credential is what an app authenticates with. Its secret is known only as
// verifiers.
type Credential struct {
	Meta
	Scope    string    `json:"scope,omitempty"`   // tenant (default) or platform
	Tenants  []string  `json:"tenants,omitempty"` // platform scope: whom it may act for; ["*"] for all
	Name     string    `json:"name"`
	Username string    `json:"username,omitempty"` // acme/app, platform/app
	Secret   string    `json:"secret,omitempty"`   // given at creation, or shown once; never stored
	Networks []string  `json:"networks,omitempty"`
	Expires  time.Time `json:"expires,omitzero"`
	Notify   string    `json:"notify,omitempty"`
	LastUsed time.Time `json:"last_used,omitzero"`

	// Set by the directory when it authenticates: whose it is, and the MAC of
	// the secret that was proved.
	owner  mail.TenantID
	proved []byte
}

// Domain is a DNS domain that a tenant proves it owns.
type Domain struct {
	Meta
	Name       string    `json:"name"`
	ReturnPath string    `json:"return_path,omitempty"` // host below the domain, default bounce
	DKIM       []DKIMKey `json:"dkim,omitempty"`        // made when left out: RSA-2048 and Ed25519
	Verified   bool      `json:"verified,omitempty"`    // an admin says so
	State      string    `json:"state,omitempty"`       // pending or active; set by the directory
}

// States of a domain.
const (
	DomainPending = "pending" // claimed, and no proof seen yet
	DomainActive  = "active"  // its key was seen in the DNS, or an admin verified it
)

// ReturnPathHost is the host that the domain's return paths are at.
func (d *Domain) ReturnPathHost() string { return d.ReturnPath + "." + d.Name }

// DKIMKey is one signing key. Key is given at creation (PEM, or file:, env:)
// and sealed at once; Public is what the DNS must show as p=.
type DKIMKey struct {
	Selector  string `json:"selector"`
	Algorithm string `json:"algorithm"` // rsa-2048 or ed25519 (an imported RSA key may be longer)
	Key       string `json:"key,omitempty"`
	Public    string `json:"public,omitempty"`
}

// Identity is an address, or *@domain, that a tenant may put in From.
type Identity struct {
	Meta
	Address     string `json:"address"`
	DisplayName string `json:"display_name,omitempty"`
	Verified    bool   `json:"verified,omitempty"` // an admin says so
}

// Connection is a tenant's account at an outside provider.
type Connection struct {
	Meta
	Name     string   `json:"name"`
	Provider string   `json:"provider"`
	Senders  []string `json:"senders,omitempty"`  // what the account may send as; default its own address
	Envelope string   `json:"envelope,omitempty"` // account (default) or any
	Signs    string   `json:"signs,omitempty"`    // provider: it signs for the domain on envelope: any
	Verp     string   `json:"verp,omitempty"`     // recipient (default) or message
	SMTP     *SMTP    `json:"smtp,omitempty"`
	// Trusted is set by the directory when an admin wrote the connection: its
	// host may then be on loopback.
	Trusted bool `json:"trusted,omitempty"`
}

// SMTP says how to reach a submission server. Password is given as file:PATH,
// env:NAME or itself; it is sealed at once and never shown.
type SMTP struct {
	Host     string `json:"host"`
	Port     int    `json:"port,omitempty"`     // default by security: 465, 587, 25
	Security string `json:"security,omitempty"` // tls, starttls (default) or none
	Auth     string `json:"auth,omitempty"`     // plain, login, cram-md5, scram-sha-256; default the best offered
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	// CAFile is the text of certificates in PEM, trusted besides the system's
	// roots. In files of "behalf apply" it is the path of a file that holds it.
	CAFile        string `json:"ca_file,omitempty"`
	AllowInsecure bool   `json:"allow_insecure,omitempty"`
}
