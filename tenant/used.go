package tenant

import (
	"context"
	"fmt"
	"sync"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
)

const (
	usedEvery = time.Minute // at most this often a credential's last use is written
	maxUsed   = 1 << 16     // credentials noted in between; more are not
	usedBatch = 256         // written in one transaction
)

// usage notes in memory when credentials were used.
type usage struct {
	mu   sync.Mutex
	when map[usedKey]time.Time
}

type usedKey struct {
	tenant mail.TenantID
	name   string
}

func newUsage() *usage { return &usage{when: map[usedKey]time.Time{}} }

func (u *usage) touch(t mail.TenantID, name string, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	k := usedKey{t, name}
	if _, ok := u.when[k]; ok || len(u.when) < maxUsed {
		u.when[k] = at
	}
}

func (u *usage) take() map[usedKey]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	w := u.when
	u.when = map[usedKey]time.Time{}
	return w
}

// writeUsed writes what was noted, in batches. A credential that was deleted
// meanwhile leaves no trace.
func (d *Directory) writeUsed(ctx context.Context) error {
	noted := d.used.take()
	for len(noted) > 0 {
		batch := map[usedKey]time.Time{}
		for k, at := range noted {
			if len(batch) == usedBatch {
				break
			}
			batch[k] = at
			delete(noted, k)
		}
		err := d.store.Update(ctx, func(w kv.Writer) error {
			for k, at := range batch {
				if _, err := w.Get(resourceKey(k.tenant, KindCredential, k.name)); notFound(err) {
					continue
				} else if err != nil {
					return err
				}
				if err := w.Put(resourceKey(k.tenant, kindUsed, k.name), []byte(whole(at).Format(time.RFC3339))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("writing the last use of credentials: %w", err)
		}
	}
	return nil
}

// lastUsed is when a credential was last used, as far as it was written down.
func lastUsed(g getter, t mail.TenantID, name string) time.Time {
	b, err := g.Get(resourceKey(t, kindUsed, name))
	if err != nil {
		return time.Time{}
	}
	at, _ := time.Parse(time.RFC3339, string(b))
	return at
}
