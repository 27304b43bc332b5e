package tenant

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"behalf/internal/kv"
	"behalf/mail"
)

// Bounds of the views that are kept.
const (
	maxViews    = 100_000
	maxViewSize = 32 << 20 // octets, about
)

// views keeps views, least recently used out first. A write drops its tenant's
// view and moves its turn on, so that what was read before the write, but comes
// in after it, is not kept.
type views struct {
	mu     sync.Mutex
	lru    *simplelru.LRU[mail.TenantID, *View]
	ids    map[string]mail.TenantID // of the views that are kept
	used   int
	turn   [256]uint64 // by the tenant's low octet
	flying map[flightKey]*viewFlight
}

type flightKey struct {
	id   mail.TenantID
	turn uint64
}

// viewFlight is a load under way; those who want the same wait for it.
type viewFlight struct {
	done chan struct{}
	view *View
	err  error
}

func newViews() *views {
	c := &views{ids: map[string]mail.TenantID{}, flying: map[flightKey]*viewFlight{}}
	// The size is positive, so this cannot fail.
	c.lru, _ = simplelru.NewLRU(maxViews, func(id mail.TenantID, v *View) {
		c.used -= v.size
		if c.ids[v.Tenant.Name] == id {
			delete(c.ids, v.Tenant.Name)
		}
	})
	return c
}

// drop forgets a tenant's view: call it after each commit that changed it.
func (c *views) drop(id mail.TenantID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn[byte(id)]++
	c.lru.Remove(id)
}

func (c *views) put(id mail.TenantID, turn uint64, v *View) {
	if c.turn[byte(id)] != turn {
		return
	}
	c.lru.Remove(id)
	c.lru.Add(id, v)
	c.ids[v.Tenant.Name] = id
	c.take(v.size)
}

// take makes room for so many octets more; c.mu is held.
func (c *views) take(size int) {
	for c.used += size; c.used > maxViewSize && c.lru.Len() > 1; {
		c.lru.RemoveOldest()
	}
}

// grow notes that a view holds so many octets more by now.
func (c *views) grow(id mail.TenantID, v *View, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if kept, ok := c.lru.Peek(id); ok && kept == v {
		v.size += size
		c.take(size)
	}
}

// View gives what is known of a tenant now; tenant 0 is the platform itself.
// It wraps ErrNotFound when there is no such tenant.
func (d *Directory) View(ctx context.Context, id mail.TenantID) (*View, error) {
	c := d.views
	for {
		c.mu.Lock()
		if v, ok := c.lru.Get(id); ok {
			c.mu.Unlock()
			return v, nil
		}
		k := flightKey{id, c.turn[byte(id)]}
		f, under := c.flying[k]
		if !under {
			f = &viewFlight{done: make(chan struct{})}
			c.flying[k] = f
			c.mu.Unlock()
			return d.fly(ctx, k, f)
		}
		c.mu.Unlock()
		select {
		case <-f.done:
			if f.err == nil || errors.Is(f.err, ErrNotFound) {
				return f.view, f.err
			}
			// The one who read may just have given up: read again.
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (d *Directory) fly(ctx context.Context, k flightKey, f *viewFlight) (*View, error) {
	c := d.views
	f.err = errors.New("reading a tenant broke off")
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.flying, k)
		if f.err == nil {
			c.put(k.id, k.turn, f.view)
		}
		close(f.done)
	}()
	f.err = d.store.View(ctx, func(r kv.Reader) (err error) {
		f.view, err = d.loadView(r, k.id)
		return err
	})
	return f.view, f.err
}

// ViewByName is View by the tenant's name.
func (d *Directory) ViewByName(ctx context.Context, name string) (*View, error) {
	id, err := d.tenantID(ctx, name)
	if err != nil {
		return nil, err
	}
	v, err := d.View(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("tenant %q: %w", clip(name), err)
	}
	return v, nil
}

// tenantID finds the number of a tenant by its name.
func (d *Directory) tenantID(ctx context.Context, name string) (mail.TenantID, error) {
	if name == PlatformName {
		return 0, nil
	}
	d.views.mu.Lock()
	id, ok := d.views.ids[name]
	d.views.mu.Unlock()
	if ok {
		return id, nil
	}
	err := d.store.View(ctx, func(r kv.Reader) (err error) {
		id, err = readTenantID(r, name)
		return err
	})
	return id, err
}

// readTenantID is tenantID within a transaction.
func readTenantID(g getter, name string) (mail.TenantID, error) {
	if name == PlatformName {
		return 0, nil
	}
	if name == "" || len(name) > 63 {
		return 0, fmt.Errorf("tenant %q: %w", clip(name), ErrNotFound)
	}
	b, err := g.Get(nameKey(name))
	if errors.Is(err, kv.ErrNotFound) {
		return 0, fmt.Errorf("tenant %q: %w", name, ErrNotFound)
	}
	if err != nil {
		return 0, fmt.Errorf("tenant %q: %w", name, err)
	}
	id, ok := parseNumber(b)
	if !ok {
		return 0, fmt.Errorf("tenant %q: its stored number is damaged", name)
	}
	return id, nil
}
