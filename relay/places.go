package relay

import (
	"hash/maphash"
	"strings"
	"sync/atomic"

	"golang.org/x/net/publicsuffix"

	"behalf/tenant/dnscheck"
)

// place is what lists that never change say of a domain.
type place struct {
	domain string
	site   string // the organisational domain that it belongs to, by the public suffix list; a policy counts by it
	family string // the big receiver whose mailboxes stand there
}

// placesKept bounds the domains of which it is remembered.
const placesKept = 4096

// places remembers places. Each domain has one slot, which it may lose to
// another.
type places struct {
	seed  maphash.Seed
	slots [placesKept]atomic.Pointer[place]
}

func newPlaces() *places { return &places{seed: maphash.MakeSeed()} }

func (p *places) of(domain string) *place {
	slot := &p.slots[maphash.String(p.seed, domain)%placesKept]
	if at := slot.Load(); at != nil && at.domain == domain {
		return at
	}
	domain = strings.Clone(domain) // not the text that it stands in
	at := &place{domain: domain, site: siteOf(domain), family: dnscheck.Family(domain)}
	slot.Store(at)
	return at
}

// siteOf is the organisational domain that a domain belongs to.
func siteOf(domain string) string {
	org, err := publicsuffix.EffectiveTLDPlusOne(domain)
	if err != nil {
		return domain
	}
	return org
}
