package tenant

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
)

// Change says what an Apply did.
type Change string

// The changes.
const (
	Created   Change = "created"
	Updated   Change = "updated"
	Unchanged Change = "unchanged"
)

// maxOfKind bounds what a tenant that is not an admin may have of one kind.
const maxOfKind = 10_000

// errAgain ends a transaction whose preparation is out of date.
var errAgain = errors.New("out of date")

// plan is one Apply, prepared: everything that takes time is done, so that the
// transaction only compares and writes. It may run several times.
type plan struct {
	by      Actor
	ifMatch uint64
	id      mail.TenantID
	key     []byte
	old     resource // nil: there is none
	oldRec  *record
	new     resource // without secrets
	rec     *record
	value   []byte // the new record, packed
	reveal  string // generated secret
	same    bool
}

// Apply makes the resource be as raw says: strict JSON with its kind, and with
// all that it shall have, for what is left out takes its default; only secrets
// and keys left out stay. Doing it twice changes nothing. The result is the
// resource as it is then, a generated secret in it this once. ifMatch is the
// revision that must be there, 0 for any.
//
// Errors: *ValidationError, ErrNotFound (also for a tenant that by may not act
// for), ErrForbidden, ErrConflict, ErrTaken.
func (d *Directory) Apply(ctx context.Context, raw json.RawMessage, by Actor, ifMatch uint64) (any, Change, error) {
	r, err := decode(raw, "")
	if err != nil {
		return nil, "", err
	}
	return d.apply(ctx, r, by, ifMatch)
}

// ApplyResource is Apply for a *Tenant, *Credential, *Domain, *Identity or
// *Connection, which it leaves alone.
func (d *Directory) ApplyResource(ctx context.Context, v any, by Actor, ifMatch uint64) (any, Change, error) {
	given, ok := v.(resource)
	if !ok {
		return nil, "", invalid("kind", "%T is not a resource", v)
	}
	raw, err := json.Marshal(given)
	if err != nil {
		return nil, "", err
	}
	r := newResource(given.kind())
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, "", err
	}
	r.meta().Kind = r.kind()
	return d.apply(ctx, r, by, ifMatch)
}

func (d *Directory) apply(ctx context.Context, r resource, by Actor, ifMatch uint64) (any, Change, error) {
	m := r.meta()
	*m = Meta{Kind: m.Kind, Tenant: m.Tenant}
	if c, ok := r.(*Credential); m.Tenant == "" && r.kind() != KindTenant && !(ok && c.Scope == ScopePlatform) {
		m.Tenant = by.home()
	}
	r.clear()
	var f faults
	r.check(&f)
	if err := f.err(); err != nil {
		return nil, "", err
	}
	if err := by.mayWrite(r.kind(), owner(r)); err != nil {
		return nil, "", err
	}
	for range 8 {
		p, err := d.prepare(ctx, r, by, ifMatch)
		if err == nil {
			err = d.store.Update(ctx, func(w kv.Writer) error { return d.commit(w, p) })
		}
		if errors.Is(err, errAgain) {
			continue
		}
		if err != nil {
			return nil, "", fmt.Errorf("%s %s: %w", r.kind(), displayName(r), err)
		}
		return d.applied(p)
	}
	return nil, "", fmt.Errorf("%s %s: others keep changing it: %w", r.kind(), displayName(r), ErrConflict)
}

func displayName(r resource) string {
	if t, ok := r.(*Tenant); ok {
		return t.Name
	}
	return r.key()
}

// applied forgets what is out of date and gives the result.
func (d *Directory) applied(p *plan) (any, Change, error) {
	if p.same {
		return shown(p.old), Unchanged, nil
	}
	d.views.drop(p.id)
	d.whose.drop(p.new)
	if c, ok := p.new.(*Connection); ok && d.options.Connection != nil {
		d.options.Connection(p.id, c.Name)
	}
	change := Updated
	if p.old == nil {
		change = Created
	}
	d.log.Info("resource "+string(change), "kind", p.new.kind(), "tenant", owner(p.new), "name", displayName(p.new), "by", p.by.Name)
	out := clone(p.new)
	if c, ok := out.(*Credential); ok {
		c.Secret = p.reveal
	}
	if dom, ok := out.(*Domain); ok {
		dom.State = DomainPending
		if dom.Verified || !p.rec.Active.IsZero() {
			dom.State = DomainActive
		}
	}
	return out, change, nil
}

// shown is what people see of a stored resource. Secrets are not in it.
func shown(r resource) any { return clone(r) }

// prepare reads what there is and makes what is missing.
func (d *Directory) prepare(ctx context.Context, given resource, by Actor, ifMatch uint64) (*plan, error) {
	p := &plan{by: by, ifMatch: ifMatch, new: clone(given), rec: &record{Sealed: map[string][]byte{}}}
	err := d.store.View(ctx, func(r kv.Reader) (err error) {
		p.id, err = readTenantID(r, owner(given))
		isNew := notFound(err) && given.kind() == KindTenant
		if isNew {
			p.id, err = d.newID(), nil
		}
		if err != nil {
			return err
		}
		p.key = resourceKey(p.id, given.kind(), given.key())
		p.old, p.oldRec, err = load(r, p.key, given.kind())
		if isNew && p.old != nil {
			return errAgain // the number is another's
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if p.old == nil {
		p.oldRec = &record{}
		if err := d.room(ctx, p); err != nil {
			return nil, err
		}
	}
	if err := d.finish(p); err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	m := p.new.meta()
	m.Created, m.Updated, m.Revision = now, now, 1
	if p.old != nil {
		m.Created, m.Revision = p.old.meta().Created, p.old.meta().Revision+1
	}
	p.value, err = p.rec.pack(p.new)
	return p, err
}

func newTenantID() mail.TenantID {
	var b [4]byte
	for {
		rand.Read(b[:])
		if id := binary.BigEndian.Uint32(b[:]); id != 0 {
			return mail.TenantID(id)
		}
	}
}

// room refuses a tenant's ten-thousandth resource of a kind.
func (d *Directory) room(ctx context.Context, p *plan) error {
	if p.by.Admin {
		return nil
	}
	v, err := d.View(ctx, p.id)
	if err != nil {
		return err
	}
	n := map[Kind]int{KindCredential: len(v.credentials), KindDomain: len(v.domains), KindIdentity: len(v.identities), KindConnection: len(v.connections)}
	if n[p.new.kind()] >= maxOfKind {
		return fmt.Errorf("there are %d already; remove some or ask the platform: %w", maxOfKind, ErrForbidden)
	}
	return nil
}

// finish completes the new resource from the old one and what is generated,
// and seals its secrets.
func (d *Directory) finish(p *plan) error {
	switch r := p.new.(type) {
	case *Tenant:
		p.finishTenant(r)
	case *Credential:
		return d.finishCredential(p, r)
	case *Domain:
		return d.finishDomain(p, r)
	case *Identity:
		var was bool
		if old, ok := p.old.(*Identity); ok {
			was = old.Verified
		}
		verified, err := p.verified(r.Verified, was)
		r.Verified = verified
		p.same = err == nil && p.old != nil && same(p.old, r)
		return err
	case *Connection:
		return d.finishConnection(p, r)
	}
	return nil
}

// verified keeps what an admin said: others may repeat it but not say it.
func (p *plan) verified(says, was bool) (bool, error) {
	if p.by.Admin {
		return says, nil
	}
	if says && !was {
		return false, invalid("verified", "only an admin may say so; leave it out, it is earned by proof")
	}
	return was, nil
}

func (p *plan) finishTenant(t *Tenant) {
	t.ID = p.id
	old, _ := p.old.(*Tenant)
	if t.Suspended != nil {
		s := *t.Suspended
		s.By = p.by.Name
		if old != nil && old.Suspended != nil && old.Suspended.Reason == s.Reason && old.Suspended.Until.Equal(s.Until) {
			s.By = old.Suspended.By
		}
		t.Suspended = &s
	}
	p.same = old != nil && same(old, t)
}
