package tenant

import (
	"strings"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"behalf/mail"
)

// maxHolders bounds the names of each kind whose holders are kept in memory,
// about 200 octets each.
const maxHolders = 1 << 16

// holders are the tenants that have a name in the index u/…: none, one, or two
// that stand for two and more. That is enough to know of any tenant whether
// another one is among them.
type holders struct {
	n   int8
	ids [2]mail.TenantID
}

// everybody stands for a name whose holder cannot be read: it is foreign to all.
var everybody = holders{2, [2]mail.TenantID{^mail.TenantID(0), ^mail.TenantID(0) - 1}}

func (h *holders) add(t mail.TenantID) {
	if h.n < 2 && !(h.n == 1 && h.ids[0] == t) {
		h.ids[h.n] = t
		h.n++
	}
}

// other reports whether anybody but t is among them.
func (h holders) other(t mail.TenantID) bool {
	for _, id := range h.ids[:h.n] {
		if id != t {
			return true
		}
	}
	return false
}

// whose remembers who holds which domains and addresses, and of which nobody
// does, least recently used out first. A write drops the names that it changed
// and moves the turn on, so that what was read before the write, but comes in
// after it, is not kept.
type whose struct {
	mu        sync.Mutex
	turn      uint64
	domains   *simplelru.LRU[string, holders]
	addresses *simplelru.LRU[mail.Address, holders] // in the form of their keys; Local "*" is the pattern *@domain
}

func newWhose() *whose {
	x := &whose{}
	// The size is positive, so these cannot fail.
	x.domains, _ = simplelru.NewLRU[string, holders](maxHolders, nil)
	x.addresses, _ = simplelru.NewLRU[mail.Address, holders](maxHolders, nil)
	return x
}

// drop forgets who holds what a resource names: call it after each commit that
// changed it.
func (x *whose) drop(r resource) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch r := r.(type) {
	case *Domain:
		x.turn++
		x.domains.Remove(r.Name)
	case *Identity:
		x.turn++
		at := strings.LastIndexByte(r.Address, '@')
		x.addresses.Remove(mail.Address{Local: r.Address[:max(0, at)], Domain: r.Address[at+1:]})
	}
}

// dropAll forgets everything.
func (x *whose) dropAll() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.turn++
	x.domains.Purge()
	x.addresses.Purge()
}

// sightOf is what is known of an address: who holds the closest domain that is
// proved, the address, and *@domain.
type sightOf struct {
	domain, address, pattern holders
}

func (s *sightOf) other(t mail.TenantID) bool {
	return s.domain.other(t) || s.address.other(t) || s.pattern.other(t)
}

// find tells what is known of an address; ok is false if something of it is not.
func (x *whose) find(a mail.Address) (s sightOf, turn uint64, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for name := a.Domain; name != "" && s.domain.n == 0; _, name, _ = strings.Cut(name, ".") {
		if s.domain, ok = x.domains.Get(name); !ok {
			return s, x.turn, false
		}
	}
	if s.address, ok = x.addresses.Get(a); !ok {
		return s, x.turn, false
	}
	s.pattern, ok = x.addresses.Get(mail.Address{Local: "*", Domain: a.Domain})
	return s, x.turn, ok
}

// keep notes what was read when it was that turn.
func (x *whose) keep(turn uint64, a mail.Address, s sightOf, proved string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.turn != turn {
		return
	}
	a = mail.Address{Local: strings.Clone(a.Local), Domain: strings.Clone(a.Domain)} // not the text that they stand in
	for name := a.Domain; name != ""; _, name, _ = strings.Cut(name, ".") {
		if len(name) == len(proved) {
			x.domains.Add(name, s.domain)
			break
		}
		x.domains.Add(name, holders{})
	}
	x.addresses.Add(a, s.address)
	x.addresses.Add(mail.Address{Local: "*", Domain: a.Domain}, s.pattern)
}
