package tenant

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
)

const (
	macSize      = sha256.Size
	secretPrefx  = "bhf_"
	scramRounds  = 4096 // enough: the secret is 256 random bits, and the verifier is sealed
	maxUsername  = 160
	maxPresented = 4096 // longest secret that is looked at
)

// newSecret makes a secret of 256 bits.
func newSecret() string {
	var b [32]byte
	rand.Read(b[:])
	return secretPrefx + base64.RawURLEncoding.EncodeToString(b[:])
}

func (d *Directory) mac(parts ...string) []byte {
	h := hmac.New(sha256.New, d.pepper[:])
	for _, p := range parts {
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}

// SplitUsername takes the tenant off a username such as platform/app+acme.
func SplitUsername(username string) (name, tenantName string) {
	name, tenantName, _ = strings.Cut(username, "+")
	return name, tenantName
}

// find gives the credential of a username, with its owner, or nil. Store
// trouble is the only error.
func (d *Directory) find(ctx context.Context, username string) (*credential, mail.TenantID, error) {
	owner, name, ok := strings.Cut(username, "/")
	if !ok || len(username) > maxUsername {
		owner = " " // looked for all the same, so that it takes as long
	}
	var id mail.TenantID
	found := true
	err := d.store.View(ctx, func(r kv.Reader) (err error) {
		id, err = readTenantID(r, owner)
		if notFound(err) {
			found, err = false, nil
		}
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	v, err := d.View(ctx, id)
	if notFound(err) {
		return nil, 0, nil // deleted just now
	}
	if err != nil {
		return nil, 0, err
	}
	c, ok := v.credentials[name]
	if !found || !ok {
		return nil, 0, nil
	}
	return c, id, nil
}

// Authenticate checks a username (acme/app, platform/app) and its secret. It
// returns ErrAuth alike, and after as long, for an unknown user, a wrong secret
// and an expired credential. Whether the credential may be used from where the
// client is, the caller checks with Allows.
func (d *Directory) Authenticate(ctx context.Context, username, secret string) (*Credential, error) {
	c, id, err := d.find(ctx, username)
	if err != nil {
		return nil, fmt.Errorf("authenticating %q: %w", clip(username), err)
	}
	if len(secret) > maxPresented {
		secret = secret[:maxPresented]
	}
	got, want := d.mac(secret), d.decoy[:]
	if c != nil {
		want = c.mac
	}
	if !hmac.Equal(got, want) || c == nil {
		return nil, fmt.Errorf("%w: %q: unknown user or wrong secret", ErrAuth, clip(username))
	}
	return d.accept(c, id)
}

// accept checks the time and notes the use.
func (d *Directory) accept(c *credential, id mail.TenantID) (*Credential, error) {
	now := time.Now()
	if c.expired(now) {
		return nil, fmt.Errorf("%w: %s expired on %s", ErrAuth, c.Username, c.Expires.Format(time.RFC3339))
	}
	d.used.touch(id, c.Name, now)
	out := c.Credential
	out.owner, out.proved = id, c.mac
	return &out, nil
}

// AuthenticateBearer finds the credential that has this secret. A secret that
// several credentials share (only one that was given can be) needs a username.
func (d *Directory) AuthenticateBearer(ctx context.Context, secret string) (*Credential, error) {
	if len(secret) > maxPresented {
		secret = secret[:maxPresented]
	}
	mac := d.mac(secret)
	var id mail.TenantID
	var name string
	n := 0
	err := d.store.View(ctx, func(r kv.Reader) error {
		return r.Scan(kv.Range{Prefix: secretPrefix(mac), KeysOnly: true}, func(key, _ []byte) bool {
			if t, s, ok := secretOwner(key); ok {
				id, name = t, strings.Clone(s)
				n++
			}
			return n < 2
		})
	})
	if err != nil {
		return nil, fmt.Errorf("authenticating by secret: %w", err)
	}
	if n != 1 {
		return nil, fmt.Errorf("%w: %s", ErrAuth, map[bool]string{true: "unknown secret", false: "several credentials have this secret; give the username too"}[n == 0])
	}
	v, err := d.View(ctx, id)
	if notFound(err) {
		return nil, fmt.Errorf("%w: the tenant is gone", ErrAuth)
	}
	if err != nil {
		return nil, fmt.Errorf("authenticating by secret: %w", err)
	}
	c, ok := v.credentials[name]
	if !ok || !hmac.Equal(mac, c.mac) {
		return nil, fmt.Errorf("%w: the credential is gone", ErrAuth)
	}
	return d.accept(c, id)
}

// Authenticated gives the credential of a username whose secret was proved by
// SCRAM, or was proved earlier in a session: ErrAuth if it is gone or expired.
func (d *Directory) Authenticated(ctx context.Context, username string) (*Credential, error) {
	c, id, err := d.find(ctx, username)
	if err != nil {
		return nil, fmt.Errorf("authenticating %q: %w", clip(username), err)
	}
	if c == nil {
		return nil, fmt.Errorf("%w: %q is gone", ErrAuth, clip(username))
	}
	return d.accept(c, id)
}

// ScramVerifier is what a server needs to check SCRAM-SHA-256 (RFC 5802, 7677).
type ScramVerifier struct {
	Salt       []byte `json:"salt"`
	Iterations int    `json:"iterations"`
	StoredKey  []byte `json:"stored_key"`
	ServerKey  []byte `json:"server_key"`
}

// newScram computes the verifier of a secret, which is printable ASCII and so
// needs no preparation (RFC 4013).
func newScram(secret string) (ScramVerifier, error) {
	v := ScramVerifier{Salt: make([]byte, 16), Iterations: scramRounds}
	rand.Read(v.Salt)
	salted, err := pbkdf2.Key(sha256.New, secret, v.Salt, v.Iterations, sha256.Size)
	if err != nil {
		return v, err
	}
	client := sum(salted, "Client Key")
	stored := sha256.Sum256(client)
	v.StoredKey, v.ServerKey = stored[:], sum(salted, "Server Key")
	return v, nil
}

func sum(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// Scram gives the verifier of a username; for an unknown one a false one, the
// same each time, that no secret fits.
func (d *Directory) Scram(ctx context.Context, username string) (ScramVerifier, error) {
	c, id, err := d.find(ctx, username)
	if err != nil {
		return ScramVerifier{}, fmt.Errorf("authenticating %q: %w", clip(username), err)
	}
	if c == nil {
		return ScramVerifier{
			Salt:       sum(d.decoy[:], "salt "+username)[:16],
			Iterations: scramRounds,
			StoredKey:  sum(d.decoy[:], "stored "+username),
			ServerKey:  sum(d.decoy[:], "server "+username),
		}, nil
	}
	var v ScramVerifier
	b, err := d.keys.Open(id, sealedRecord(KindCredential, c.Name), fieldScram, c.scram)
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		return ScramVerifier{}, fmt.Errorf("credential %s: %w", c.Username, err)
	}
	return v, nil
}

// MayActFor reports whether the credential may act for the named tenant.
func (d *Directory) MayActFor(c *Credential, tenantName string) bool {
	if c == nil || tenantName == "" || tenantName == PlatformName {
		return false
	}
	return ActorOf(c).may(tenantName)
}

// ViewFor is ViewByName for a credential that was authenticated earlier, in a
// session from addr. What counts is the credential as it is stored now: ErrAuth
// if it has another secret since, has expired or may not be used from addr;
// ErrNotFound if it is gone or may not act for the tenant.
func (d *Directory) ViewFor(ctx context.Context, c *Credential, tenantName string, addr netip.Addr) (*View, error) {
	if c == nil {
		return nil, fmt.Errorf("tenant %q: %w", clip(tenantName), ErrNotFound)
	}
	now, err := d.current(ctx, c)
	if err != nil {
		return nil, err
	}
	switch {
	case now.expired(time.Now()):
		return nil, fmt.Errorf("%w: %s expired on %s", ErrAuth, now.Username, now.Expires.Format(time.RFC3339))
	case !now.Allows(addr):
		return nil, fmt.Errorf("%w: %s may not be used from %s", ErrAuth, now.Username, addr)
	case !d.MayActFor(&now.Credential, tenantName):
		return nil, fmt.Errorf("tenant %q: %w", clip(tenantName), ErrNotFound)
	}
	v, err := d.ViewByName(ctx, tenantName)
	if err == nil && now.Scope != ScopePlatform && v.Tenant.ID != c.owner {
		return nil, fmt.Errorf("tenant %q: %w", tenantName, ErrNotFound) // another tenant of that name by now
	}
	return v, err
}

// current is an authenticated credential as it is stored now, if it is still
// the same one with the same secret.
func (d *Directory) current(ctx context.Context, c *Credential) (*credential, error) {
	v, err := d.View(ctx, c.owner)
	if err != nil {
		return nil, err
	}
	now, ok := v.credentials[c.Name]
	if !ok || !now.Created.Equal(c.Created) {
		return nil, fmt.Errorf("credential %s is gone: %w", c.Username, ErrNotFound)
	}
	if !hmac.Equal(now.mac, c.proved) {
		return nil, fmt.Errorf("%w: %s has another secret by now", ErrAuth, c.Username)
	}
	return now, nil
}

// expired reports whether the credential's time is over.
func (c *Credential) expired(now time.Time) bool {
	return !c.Expires.IsZero() && !now.Before(c.Expires)
}

// Allows reports whether the credential may be used from addr.
func (c *Credential) Allows(addr netip.Addr) bool {
	if len(c.Networks) == 0 {
		return true
	}
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(c.Networks, func(n string) bool {
		p, err := parseNetwork(n)
		return err == nil && p.Contains(addr)
	})
}
