package habit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"behalf/internal/kv"
	"behalf/limit"
	"behalf/mail"
)

// A row "u" + tenant (4 bytes) + credential holds a profile: a version, then
// CBOR. It is gone after half a year without mail.
const (
	tableHabit = 'u'
	version    = 1
	keepFor    = 180 * 24 * time.Hour
	page       = 200
)

func key(who owner) []byte {
	k := append(make([]byte, 0, 5+len(who.credential)), tableHabit)
	k = binary.BigEndian.AppendUint32(k, uint32(who.tenant))
	return append(k, who.credential...)
}

// load reads a profile. A row that cannot be read counts as none.
func (h *Habits) load(ctx context.Context, e *entry) error {
	err := h.store.View(ctx, func(r kv.Reader) error {
		b, err := r.Get(key(e.owner))
		if errors.Is(err, kv.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		h.decode(b, &e.p)
		return nil
	})
	e.loaded = err == nil
	return err
}

func (h *Habits) decode(b []byte, p *profile) {
	var stored profile
	if len(b) > 0 && b[0] == version && h.dec.Unmarshal(b[1:], &stored) == nil {
		*p = stored
		p.ready()
	}
}

func (p *profile) encode() ([]byte, error) {
	b, err := cbor.Marshal(p)
	return append([]byte{version}, b...), err
}

// Run writes what changed each second, and once more when ctx ends. Only an
// error of the store ends it before.
func (h *Habits) Run(ctx context.Context) error { return limit.EachSecond(ctx, h.Flush) }

// changes are the profiles that are not in the store as they are in memory, so
// that writing them costs what changed and not what is there. Its lock is the
// last that anybody takes.
type changes struct {
	mu   sync.Mutex
	list []*entry
}

func (c *changes) add(some ...*entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, some...)
}

func (c *changes) take() []*entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.list
	c.list = nil
	return list
}

// change notes that the profile changed; e is locked.
func (e *entry) change() {
	if !e.dirty {
		e.dirty = true
		e.changed.add(e)
	}
}

// Flush writes what changed since the last one. What could not be written is
// written by the next.
func (h *Habits) Flush(ctx context.Context) error {
	h.flushing.Lock()
	defer h.flushing.Unlock()
	all := h.changed.take()
	for len(all) > 0 {
		some := all[:min(page, len(all))]
		if err := h.write(ctx, some); err != nil {
			h.changed.add(all[len(some):]...) // which were not tried and are still marked
			return fmt.Errorf("writing habits: %w", err)
		}
		all = all[len(some):]
	}
	return nil
}

// write writes some changed profiles. After an error they are changed still.
func (h *Habits) write(ctx context.Context, some []*entry) error {
	rows := make([][]byte, len(some))
	var bad error
	for i, e := range some {
		e.mu.Lock()
		var err error
		if rows[i], err = e.p.encode(); err != nil {
			bad = err
		}
		e.dirty, e.writing = false, true
		e.mu.Unlock()
	}
	err := bad
	if err == nil {
		err = h.store.Update(ctx, func(w kv.Writer) error {
			for i, e := range some {
				if err := w.PutFor(key(e.owner), rows[i], keepFor); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for _, e := range some {
		e.mu.Lock()
		e.writing = false
		if err != nil {
			e.change()
		}
		e.mu.Unlock()
	}
	return err
}

// owners are all credentials that have a profile of their own for the tenant, by
// name.
func (h *Habits) owners(ctx context.Context, t mail.TenantID) ([]owner, error) {
	var list []owner
	prefix := key(owner{tenant: t})
	err := h.store.View(ctx, func(r kv.Reader) error {
		return r.Scan(kv.Range{Prefix: prefix, KeysOnly: true}, func(k, _ []byte) bool {
			if who := (owner{t, string(k[len(prefix):])}); who.level() == ofCredential {
				list = append(list, who)
			}
			return true
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading the habits of tenant %d: %w", t, err)
	}
	h.mu.Lock()
	for who := range h.profiles {
		if who.tenant == t && who.level() == ofCredential {
			list = append(list, who)
		}
	}
	h.mu.Unlock()
	slices.SortFunc(list, func(a, b owner) int { return strings.Compare(a.credential, b.credential) })
	return slices.Compact(list), nil
}
