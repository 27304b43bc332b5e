package tenant

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"behalf/internal/kv"
	"behalf/mail"
)

// Foreign reports whether a belongs to a tenant other than t: its domain, or
// the closest parent that anybody has proved, is another's, or an admin
// verified the address or *@domain for another. It may be t's own as well,
// where several have verified it.
func (d *Directory) Foreign(ctx context.Context, t mail.TenantID, a mail.Address) (bool, error) {
	foreign := false
	err := d.store.View(ctx, func(r kv.Reader) (err error) {
		if foreign, err = foreignDomain(r, t, a.Domain); foreign || err != nil {
			return err
		}
		for _, pattern := range []string{a.Key(), "*@" + a.Domain} {
			if foreign, err = foreignAddress(r, t, pattern); foreign || err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("looking up whose %s is: %w", a, err)
	}
	return foreign, nil
}

// foreignDomain looks at the closest domain that is proved.
func foreignDomain(r kv.Reader, t mail.TenantID, name string) (bool, error) {
	for name != "" {
		b, err := r.Get(domainKey(name))
		if err == nil {
			owner, ok := parseNumber(b)
			return !ok || owner != t, nil
		}
		if !errors.Is(err, kv.ErrNotFound) {
			return false, err
		}
		_, name, _ = strings.Cut(name, ".")
	}
	return false, nil
}

// foreignAddress looks at those who have verified an address or *@domain.
func foreignAddress(r kv.Reader, t mail.TenantID, pattern string) (foreign bool, err error) {
	prefix := addressPrefix(pattern)
	err = r.Scan(kv.Range{Prefix: prefix, KeysOnly: true}, func(key, _ []byte) bool {
		owner, ok := parseNumber(key[len(prefix):]) // else a longer address, with a slash in it
		foreign = ok && owner != t
		return !foreign
	})
	return foreign, err
}
