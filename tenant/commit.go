package tenant

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
)

// commit compares and writes. It may run again, and changes nothing but the
// store.
func (d *Directory) commit(w kv.Writer, p *plan) error {
	if err := p.current(w); err != nil {
		return err
	}
	var revision uint64
	if p.old != nil {
		revision = p.old.meta().Revision
	}
	if p.ifMatch != 0 && p.ifMatch != revision {
		return fmt.Errorf("it has revision %d, not %d: %w", revision, p.ifMatch, ErrConflict)
	}
	if p.same {
		return nil
	}
	if err := d.index(w, p); err != nil {
		return err
	}
	return w.Put(p.key, p.value)
}

// current makes sure that the plan was made from what is there now.
func (p *plan) current(w kv.Writer) error {
	id, err := readTenantID(w, owner(p.new))
	isNew := notFound(err) && p.new.kind() == KindTenant
	if err != nil && !isNew {
		return err
	}
	if isNew && p.old != nil {
		return errAgain // it was deleted meanwhile
	}
	if !isNew && id != p.id {
		return errAgain
	}
	now, rec, err := load(w, p.key, p.new.kind())
	switch {
	case err != nil:
		return err
	case (now == nil) != (p.old == nil):
		return errAgain
	case now != nil && (now.meta().Revision != p.old.meta().Revision || !rec.Active.Equal(p.oldRec.Active) || !now.meta().Created.Equal(p.old.meta().Created)):
		return errAgain
	}
	return nil
}

// index keeps u/… in step, and with it what must be unique.
func (d *Directory) index(w kv.Writer, p *plan) error {
	switch r := p.new.(type) {
	case *Tenant:
		return p.indexTenant(w, r)
	case *Credential:
		if p.oldRec.MAC != nil {
			if err := w.Delete(secretKey(p.oldRec.MAC, p.id, r.Name)); err != nil {
				return err
			}
		}
		return w.Put(secretKey(p.rec.MAC, p.id, r.Name), nil)
	case *Domain:
		return d.indexDomain(w, p, r)
	case *Identity:
		return d.indexIdentity(w, p, r)
	}
	return nil
}

func (p *plan) indexTenant(w kv.Writer, t *Tenant) error {
	if p.old != nil {
		return nil
	}
	if _, err := w.Get(numberKey(p.id)); err == nil {
		return errAgain // the number was given before
	} else if !notFound(err) {
		return err
	}
	if err := w.Put(numberKey(p.id), []byte(t.Name)); err != nil {
		return err
	}
	return w.Put(nameKey(t.Name), number(p.id))
}

func (d *Directory) indexDomain(w kv.Writer, p *plan, r *Domain) error {
	if err := d.claimable(w, p.id, r.Name); err != nil {
		return err
	}
	if r.Verified || !p.rec.Active.IsZero() {
		return w.Put(domainKey(r.Name), number(p.id))
	}
	return releaseDomain(w, p.id, r.Name)
}

// indexIdentity lets others know that an address is somebody's: an admin may
// verify the same one for several tenants.
func (d *Directory) indexIdentity(w kv.Writer, p *plan, r *Identity) error {
	if !p.by.Admin || !r.Verified { // else the platform vouches for it
		if err := d.claimable(w, p.id, r.Address[strings.LastIndexByte(r.Address, '@')+1:]); err != nil {
			return err
		}
	}
	if !r.Verified {
		return w.Delete(addressKey(r.Address, p.id))
	}
	return w.Put(addressKey(r.Address, p.id), nil)
}

// claimable refuses a name that is the platform's, or that is or lies below a
// domain that another tenant has proved.
func (d *Directory) claimable(w kv.Writer, id mail.TenantID, name string) error {
	if id == 0 {
		return nil
	}
	if within(name, d.options.PlatformDomain) || within(name, d.options.SendingDomain) {
		return fmt.Errorf("%s is the platform's own: %w", name, ErrForbidden)
	}
	return parents(name, func(parent string) error {
		b, err := w.Get(domainKey(parent))
		if errors.Is(err, kv.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if t, ok := parseNumber(b); !ok || t != id {
			return fmt.Errorf("%s: %w", parent, ErrTaken)
		}
		return nil
	})
}

// releaseDomain takes the name out of the index if it is that tenant's.
func releaseDomain(w kv.Writer, id mail.TenantID, name string) error {
	b, err := w.Get(domainKey(name))
	if errors.Is(err, kv.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if t, ok := parseNumber(b); ok && t == id {
		return w.Delete(domainKey(name))
	}
	return nil
}

// Activate records that the tenant's key was seen in the DNS of its domain:
// from then on no other tenant can prove that domain, be given it, or claim
// what lies below. It does nothing, fast, for a domain that is active; it is
// ErrTaken when another tenant was first.
func (d *Directory) Activate(ctx context.Context, t mail.TenantID, name string) error {
	v, err := d.View(ctx, t)
	if err != nil {
		return err
	}
	dom, ok := v.Domain(name)
	if !ok {
		return fmt.Errorf("domain %q: %w", clip(name), ErrNotFound)
	}
	if dom.State == DomainActive {
		return nil
	}
	now := time.Now().UTC()
	err = d.store.Update(ctx, func(w kv.Writer) error {
		key := resourceKey(t, KindDomain, dom.Name)
		r, rec, err := load(w, key, KindDomain)
		if err != nil {
			return err
		}
		if r == nil {
			return ErrNotFound
		}
		if !rec.Active.IsZero() {
			return nil
		}
		if err := d.claimable(w, t, dom.Name); err != nil {
			return err
		}
		rec.Active = now
		m := r.meta()
		m.Updated, m.Revision = now, m.Revision+1
		value, err := rec.pack(r)
		if err != nil {
			return err
		}
		if err := w.Put(domainKey(dom.Name), number(t)); err != nil {
			return err
		}
		return w.Put(key, value)
	})
	if err != nil {
		return fmt.Errorf("activating domain %s: %w", dom.Name, err)
	}
	d.views.drop(t)
	d.whose.drop(dom)
	d.log.Info("domain active", "tenant", v.Tenant.Name, "domain", dom.Name)
	return nil
}
