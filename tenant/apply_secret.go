package tenant

import (
	"crypto/hmac"
	"encoding/json"
	"errors"
	"fmt"
)

// sealedRecord is the place that secrets of a resource are bound to.
func sealedRecord(k Kind, name string) string { return string(k) + "/" + name }

func (d *Directory) finishCredential(p *plan, c *Credential) error {
	secret := c.Secret
	c.Secret = ""
	kept := p.old != nil && (secret == "" || hmac.Equal(d.mac(secret), p.oldRec.MAC))
	if kept {
		p.rec.MAC, p.rec.Sealed = p.oldRec.MAC, p.oldRec.Sealed
		p.same = same(p.old, c)
		return nil
	}
	if secret == "" {
		secret = newSecret()
		p.reveal = secret
	}
	v, err := newScram(secret)
	if err != nil {
		return err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	p.rec.MAC = d.mac(secret)
	p.rec.Sealed[fieldScram], err = d.keys.Seal(p.id, sealedRecord(KindCredential, c.Name), fieldScram, b)
	return err
}

// finishConnection keeps the stored password when none is given, but only for
// the server that it was given for: else whoever may edit a connection could
// have it sent to a server of theirs.
func (d *Directory) finishConnection(p *plan, c *Connection) error {
	s := *c.SMTP
	c.SMTP = &s
	password := s.Password
	s.Password = ""
	old, _ := p.old.(*Connection)
	kept := old != nil && p.oldRec.Sealed[fieldPassword] != nil && s.Username != ""
	switch {
	case password != "":
		if kept {
			was, err := d.keys.Open(p.id, sealedRecord(KindConnection, c.Name), fieldPassword, p.oldRec.Sealed[fieldPassword])
			kept = err == nil && hmac.Equal(was, []byte(password))
		}
	case kept && !sameServer(old.SMTP, &s):
		return invalid("smtp.password", "give it again: the server, its security or the username has changed")
	}
	sealed := p.oldRec.Sealed[fieldPassword]
	if password != "" && !kept {
		var err error
		if sealed, err = d.keys.Seal(p.id, sealedRecord(KindConnection, c.Name), fieldPassword, []byte(password)); err != nil {
			return err
		}
	}
	if password != "" || kept {
		p.rec.Sealed[fieldPassword] = sealed
	}
	dropped := p.oldRec.Sealed[fieldPassword] != nil && p.rec.Sealed[fieldPassword] == nil
	secretSame := kept || password == "" && !dropped
	c.Trusted = p.by.Admin
	if !p.by.Admin && old != nil {
		c.Trusted = old.Trusted
		c.Trusted = old.Trusted && same(old, c)
	}
	p.same = old != nil && secretSame && same(old, c)
	return nil
}

func sameServer(a, b *SMTP) bool {
	return a.Host == b.Host && a.Port == b.Port && a.Security == b.Security && a.Username == b.Username &&
		a.CAFile == b.CAFile && a.AllowInsecure == b.AllowInsecure
}

// finishDomain makes or imports the keys that are not there yet.
func (d *Directory) finishDomain(p *plan, r *Domain) error {
	old, _ := p.old.(*Domain)
	var was bool
	had := map[string]DKIMKey{}
	if old != nil {
		was = old.Verified
		for _, k := range old.DKIM {
			had[k.Selector] = k
		}
	}
	var err error
	if r.Verified, err = p.verified(r.Verified, was); err != nil {
		return err
	}
	given := r.DKIM
	if len(given) == 0 && old != nil {
		given = old.DKIM
	}
	if len(given) == 0 {
		given = defaultKeys()
	}
	r.DKIM = make([]DKIMKey, len(given))
	fresh := false
	for i, k := range given {
		made, err := d.finishKey(p, k, had[k.Selector])
		if err != nil {
			var v *ValidationError
			if errors.As(err, &v) {
				return err
			}
			return fmt.Errorf("key %s: %w", k.Selector, err)
		}
		fresh = fresh || made.Public != had[k.Selector].Public
		r.DKIM[i] = made
	}
	p.rec.Active = p.oldRec.Active
	if old != nil {
		r.State = old.State // is not compared; the result tells it anew
	}
	p.same = old != nil && !fresh && same(old, r)
	return nil
}

// finishKey gives one key without its private part, which it puts into the
// record: the one that was there, an imported or a new one.
func (d *Directory) finishKey(p *plan, k, old DKIMKey) (DKIMKey, error) {
	field := fieldDKIM + k.Selector
	sealed := p.oldRec.Sealed[field]
	var der []byte
	var err error
	public := old.Public
	switch {
	case k.Key != "":
		if der, public, err = importKey(k.Algorithm, k.Key); err != nil {
			return k, invalid("dkim.key", "of %s %v", k.Selector, err)
		}
		if old.Public == public && sealed != nil {
			der = nil
		}
	case sealed == nil || old.Algorithm != k.Algorithm:
		if der, public, err = makeKey(k.Algorithm); err != nil {
			return k, err
		}
	}
	if der != nil {
		if sealed, err = d.keys.Seal(p.id, sealedRecord(KindDomain, p.new.key()), field, der); err != nil {
			return k, err
		}
	}
	p.rec.Sealed[field] = sealed
	return DKIMKey{Selector: k.Selector, Algorithm: k.Algorithm, Public: public}, nil
}
