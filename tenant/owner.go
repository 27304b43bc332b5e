package tenant

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"behalf/internal/kv"
	"behalf/mail"
)

// OwnerOf tells which tenant has proved a domain or the closest parent of it;
// found is false when none has.
func (d *Directory) OwnerOf(ctx context.Context, domain string) (owner mail.TenantID, found bool, err error) {
	err = d.store.View(ctx, func(r kv.Reader) error {
		for name := domain; name != ""; {
			b, err := r.Get(domainKey(name))
			if err == nil {
				owner, found = parseNumber(b)
				return nil
			}
			if !errors.Is(err, kv.ErrNotFound) {
				return err
			}
			_, name, _ = strings.Cut(name, ".")
		}
		return nil
	})
	if err != nil {
		return 0, false, fmt.Errorf("looking up the owner of %s: %w", domain, err)
	}
	return owner, found, nil
}
