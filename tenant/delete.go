package tenant

import (
	"context"
	"fmt"

	"behalf/internal/kv"
	"behalf/mail"
)

// deleteBatch is how many of a tenant's resources go in one transaction.
const deleteBatch = 200

// Delete removes a resource. A tenant is gone at once, with all that it has,
// though what it had is removed in batches after that; its number is not used
// again. ifMatch is the revision that must be there, 0 for any.
func (d *Directory) Delete(ctx context.Context, by Actor, ref Ref, ifMatch uint64) error {
	ref, err := ref.normal(by)
	if err != nil {
		return err
	}
	if ref.Name == "" {
		return ref.missing()
	}
	if ref, err = d.locate(ctx, by, ref); err != nil {
		return err
	}
	if err := by.mayWrite(ref.Kind, ref.Tenant); err != nil {
		return err
	}
	if ref.Kind == KindTenant && ref.Tenant == PlatformName {
		return ref.missing()
	}
	var id mail.TenantID
	var gone resource
	err = d.store.Update(ctx, func(w kv.Writer) (err error) {
		id, gone, err = d.remove(w, ref, ifMatch)
		return err
	})
	if err != nil {
		return err
	}
	d.views.drop(id)
	d.whose.drop(gone)
	d.log.Info("resource deleted", "kind", ref.Kind, "tenant", ref.Tenant, "name", ref.Name, "by", by.Name)
	if ref.Kind == KindTenant {
		if err := d.clean(ctx, id); err != nil {
			return fmt.Errorf("tenant %s is deleted, but not yet all that it had; the next start goes on: %w", ref.Name, err)
		}
	}
	return nil
}

// remove takes one resource, which it gives, out of the store and its indexes.
func (d *Directory) remove(w kv.Writer, ref Ref, ifMatch uint64) (mail.TenantID, resource, error) {
	id, err := readTenantID(w, ref.Tenant)
	if err != nil {
		return 0, nil, err
	}
	key := resourceKey(id, ref.Kind, ref.Name)
	if ref.Kind == KindTenant {
		key = resourceKey(id, KindTenant, "")
	}
	r, rec, err := load(w, key, ref.Kind)
	if err != nil {
		return 0, nil, err
	}
	if r == nil {
		return 0, nil, ref.missing()
	}
	if have := r.meta().Revision; ifMatch != 0 && ifMatch != have {
		return 0, nil, fmt.Errorf("%s has revision %d, not %d: %w", ref, have, ifMatch, ErrConflict)
	}
	if ref.Kind == KindTenant {
		// The cascade can take long and be cut off: this mark brings it back.
		if err := w.Put(deletingKey(id), []byte(ref.Name)); err != nil {
			return 0, nil, err
		}
		if err := w.Delete(nameKey(ref.Name)); err != nil {
			return 0, nil, err
		}
		return id, r, w.Delete(key)
	}
	if err := unindex(w, id, r, rec); err != nil {
		return 0, nil, err
	}
	return id, r, w.Delete(key)
}

// unindex takes a resource out of u/….
func unindex(w kv.Writer, id mail.TenantID, r resource, rec *record) error {
	switch r := r.(type) {
	case *Credential:
		if err := w.Delete(resourceKey(id, kindUsed, r.Name)); err != nil {
			return err
		}
		return w.Delete(secretKey(rec.MAC, id, r.Name))
	case *Domain:
		return releaseDomain(w, id, r.Name)
	case *Identity:
		return w.Delete(addressKey(r.Address, id))
	}
	return nil
}

// clean removes what a deleted tenant left, batch by batch.
func (d *Directory) clean(ctx context.Context, id mail.TenantID) error {
	for {
		var keys [][]byte
		err := d.store.View(ctx, func(r kv.Reader) error {
			keys = keys[:0]
			return r.Scan(kv.Range{Prefix: tenantPrefix(id), KeysOnly: true}, func(key, _ []byte) bool {
				keys = append(keys, append([]byte(nil), key...))
				return len(keys) < deleteBatch
			})
		})
		if err != nil {
			return err
		}
		err = d.store.Update(ctx, func(w kv.Writer) error {
			for _, key := range keys {
				if err := cleanOne(w, id, key); err != nil {
					return err
				}
			}
			if len(keys) < deleteBatch {
				return w.Delete(deletingKey(id))
			}
			return nil
		})
		d.whose.dropAll() // what was looked up while the tenant was half gone, too
		if err != nil || len(keys) < deleteBatch {
			return err
		}
	}
}

func cleanOne(w kv.Writer, id mail.TenantID, key []byte) error {
	if k, _, ok := parseResourceKey(key); ok && newResource(k) != nil {
		r, rec, err := load(w, key, k)
		if err != nil {
			return err
		}
		if r != nil {
			if err := unindex(w, id, r, rec); err != nil {
				return err
			}
		}
	}
	return w.Delete(key)
}

// resumeDeletes ends cascades that an earlier process began.
func (d *Directory) resumeDeletes(ctx context.Context) error {
	var ids []mail.TenantID
	err := d.store.View(ctx, func(r kv.Reader) error {
		ids = nil
		return r.Scan(kv.Range{Prefix: kindPrefix(0, kindDeleting), KeysOnly: true}, func(key, _ []byte) bool {
			if id, ok := parseNumber(key[len(key)-4:]); ok && id != 0 {
				ids = append(ids, id)
			}
			return true
		})
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := d.clean(ctx, id); err != nil {
			return err
		}
	}
	return nil
}
