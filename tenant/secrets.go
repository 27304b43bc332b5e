package tenant

import (
	"context"
	"crypto"
	"crypto/rsa"
	"fmt"

	"behalf/mail"
)

// Signer gives the private key of a selector. It is opened once and kept with
// the tenant's view.
func (d *Directory) Signer(ctx context.Context, sel mail.Selector) (crypto.Signer, error) {
	v, err := d.View(ctx, sel.Tenant)
	if err != nil {
		return nil, err
	}
	dom, ok := v.domains[sel.Domain]
	if !ok {
		return nil, fmt.Errorf("domain %q: %w", clip(sel.Domain), ErrNotFound)
	}
	dom.mu.Lock()
	defer dom.mu.Unlock()
	if s, ok := dom.signers[sel.Name]; ok {
		return s, nil
	}
	field := fieldDKIM + sel.Name
	sealed, ok := dom.sealed[field]
	if !ok {
		return nil, fmt.Errorf("DKIM key %q of %s: %w", clip(sel.Name), dom.Name, ErrNotFound)
	}
	der, err := d.keys.Open(sel.Tenant, sealedRecord(KindDomain, dom.Name), field, sealed)
	if err != nil {
		return nil, fmt.Errorf("DKIM key %s of %s: %w", sel.Name, dom.Name, err)
	}
	s, err := unpackKey(der)
	if err != nil {
		return nil, fmt.Errorf("DKIM key %s of %s: %w", sel.Name, dom.Name, err)
	}
	if k, ok := s.(*rsa.PrivateKey); ok && d.options.RSA != nil {
		s = d.options.RSA(k)
	}
	if dom.signers == nil {
		dom.signers = map[string]crypto.Signer{}
	}
	dom.signers[sel.Name] = s
	d.views.grow(sel.Tenant, v, signerSize)
	return s, nil
}

// Password gives the password of a tenant's connection; empty if it has none.
func (d *Directory) Password(ctx context.Context, t mail.TenantID, name string) (string, error) {
	v, err := d.View(ctx, t)
	if err != nil {
		return "", err
	}
	c, ok := v.connections[name]
	if !ok {
		return "", fmt.Errorf("connection %q: %w", clip(name), ErrNotFound)
	}
	if c.password == nil {
		return "", nil
	}
	b, err := d.keys.Open(t, sealedRecord(KindConnection, name), fieldPassword, c.password)
	if err != nil {
		return "", fmt.Errorf("password of connection %s: %w", name, err)
	}
	return string(b), nil
}

// EnsurePlatform makes domain the sending domain of the platform, with the
// keys given (Key is PEM; what has none is made or stays), or with an RSA-2048
// and an Ed25519 key when keys is empty and there are none yet.
func (d *Directory) EnsurePlatform(ctx context.Context, domain string, keys []DKIMKey) error {
	r := &Domain{Meta: Meta{Kind: KindDomain, Tenant: PlatformName}, Name: domain, DKIM: keys, Verified: true}
	_, _, err := d.ApplyResource(ctx, r, Actor{Name: "configuration", Admin: true}, 0)
	if err != nil {
		return fmt.Errorf("keys of the sending domain: %w", err)
	}
	return nil
}

// PlatformKeys gives the keys of the sending domain (Options.SendingDomain).
func (d *Directory) PlatformKeys(ctx context.Context) ([]DKIMKey, error) {
	v, err := d.View(ctx, 0)
	if err != nil {
		return nil, err
	}
	dom, ok := v.Domain(d.options.SendingDomain)
	if !ok {
		return nil, fmt.Errorf("sending domain %q: %w", d.options.SendingDomain, ErrNotFound)
	}
	return dom.DKIM, nil
}
