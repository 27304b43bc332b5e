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
// where several have verified it. Of addresses that were asked about of late,
// no store is asked.
func (d *Directory) Foreign(ctx context.Context, t mail.TenantID, a mail.Address) (bool, error) {
	a.Local = strings.ToLower(a.Local) // as in its key
	s, turn, known := d.whose.find(a)
	if !known {
		var err error
		if s, err = d.lookUp(ctx, turn, a); err != nil {
			return false, err
		}
	}
	return s.other(t), nil
}

// lookUp reads whose an address is, and keeps it.
func (d *Directory) lookUp(ctx context.Context, turn uint64, a mail.Address) (s sightOf, err error) {
	var proved string
	err = d.store.View(ctx, func(r kv.Reader) (err error) {
		if s.domain, proved, err = closestProved(r, a.Domain); err != nil {
			return err
		}
		if s.address, err = verifiedBy(r, a); err != nil {
			return err
		}
		s.pattern, err = verifiedBy(r, mail.Address{Local: "*", Domain: a.Domain})
		return err
	})
	if err != nil {
		return s, fmt.Errorf("looking up whose %s is: %w", a, err)
	}
	d.whose.keep(turn, a, s, proved)
	return s, nil
}

// closestProved is who holds name, or the closest domain above it that is
// proved.
func closestProved(r kv.Reader, name string) (h holders, proved string, err error) {
	for name != "" {
		b, err := r.Get(domainKey(name))
		if err == nil {
			owner, ok := parseNumber(b)
			if !ok {
				return everybody, name, nil
			}
			h.add(owner)
			return h, name, nil
		}
		if !errors.Is(err, kv.ErrNotFound) {
			return h, "", err
		}
		_, name, _ = strings.Cut(name, ".")
	}
	return h, "", nil
}

// verifiedBy are those who have verified an address or *@domain.
func verifiedBy(r kv.Reader, a mail.Address) (h holders, err error) {
	prefix := addressPrefix(a.Key())
	err = r.Scan(kv.Range{Prefix: prefix, KeysOnly: true}, func(key, _ []byte) bool {
		if owner, ok := parseNumber(key[len(prefix):]); ok { // else a longer address, with a slash in it
			h.add(owner)
		}
		return h.n < 2
	})
	return h, err
}
