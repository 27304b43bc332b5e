// Package dnscheck compares what the DNS must say with what it says: whether a
// DKIM key is published, whether a return-path host leads here, which DMARC
// policy governs a From, and which records a tenant still has to publish.
//
// Answers are kept for as long as the DNS allows, within bounds. One that has
// run out is asked again by the next caller, while others go on with the old
// one; nothing runs by itself.
package dnscheck

import (
	"log/slog"
	"strings"
	"time"

	"behalf/internal/dnsx"
	"behalf/internal/kv"
	"behalf/mail"
	"behalf/tenant"
)

// Platform is what records of tenants point to.
type Platform struct {
	Hostname    string // of the relay
	InboundHost string // target of MX records; default Hostname
	SPF         string // mechanisms for every egress, e.g. "ip4:192.0.2.1"; default a:Hostname
	DMARCReport string // address for the rua of the DMARC record we advise; may be empty
}

// Options of a Checker.
type Options struct {
	Resolver dnsx.Resolver
	Store    kv.Store // remembers which keys were seen
	Platform Platform
	Log      *slog.Logger
}

// Checker asks the DNS and remembers. Its methods may be called from many
// goroutines.
type Checker struct {
	dns      dnsx.Resolver
	store    kv.Store
	platform Platform
	log      *slog.Logger
	keys     *memo[keyID, sight]
	paths    *memo[string, path]
	dmarc    *memo[string, tenant.DMARC]
}

// keyID names a key: a selector may get another one.
type keyID struct {
	sel mail.Selector
	pub string
}

// New makes a Checker. It starts nothing.
func New(o Options) *Checker {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := o.Platform
	if p.InboundHost == "" {
		p.InboundHost = p.Hostname
	}
	if strings.TrimSpace(p.SPF) == "" {
		p.SPF = "a:" + p.Hostname
	}
	p.InboundHost = strings.ToLower(strings.TrimSuffix(p.InboundHost, "."))
	return &Checker{
		dns: o.Resolver, store: o.Store, platform: p, log: o.Log,
		keys:  newMemo[keyID, sight](),
		paths: newMemo[string, path](),
		dmarc: newMemo[string, tenant.DMARC](),
	}
}

// clamp keeps a time to live within bounds.
func clamp(d, low, high time.Duration) time.Duration { return min(max(d, low), high) }
