// Package dnscheck compares what the DNS must say with what it says.
package dnscheck

import (
	"context"
	"errors"
	"log/slog"

	"behalf/internal/dnsx"
	"behalf/internal/kv"
	"behalf/mail"
	"behalf/tenant"
)

// Platform is what records of tenants point to.
type Platform struct {
	Hostname    string // of the relay
	InboundHost string // target of MX records
	SPF         string // mechanisms for every egress, e.g. "ip4:192.0.2.1"; default a:Hostname
	DMARCReport string // mailto address for the DMARC record we advise; may be empty
}

// Options of a Checker.
type Options struct {
	Resolver dnsx.Resolver
	Store    kv.Store // remembers keys that were seen; may be nil
	Platform Platform
	Log      *slog.Logger
}

// Checker asks the DNS and remembers.
type Checker struct{}

// New makes a Checker. It starts nothing.
func New(o Options) *Checker { return &Checker{} }

var errSoon = errors.New("dnscheck: not built yet")

// Published reports whether the DNS shows the key pub (base 64, the p= value)
// at a selector.
func (c *Checker) Published(ctx context.Context, sel mail.Selector, pub string) (seen bool, detail string, err error) {
	return false, "", errSoon
}

// Keys is the state of a domain's DKIM keys.
type Keys struct {
	Seen     []mail.Selector // may be signed with, in the order of the domain
	Unknown  bool            // none seen, and the DNS could not say
	Record   string          // the first record that is missed
	Expected string
	Found    string // a sentence
}

// Keys asks for all keys of a domain.
func (c *Checker) Keys(ctx context.Context, t mail.TenantID, d *tenant.Domain) Keys { return Keys{} }

// ReturnPath reports whether the return-path host has an MX that leads here
// and an SPF record that covers our egress.
func (c *Checker) ReturnPath(ctx context.Context, host string) (healthy bool, detail string, err error) {
	return false, "", errSoon
}

// DMARC finds the policy for a From domain.
func (c *Checker) DMARC(ctx context.Context, fromDomain string) (tenant.DMARC, error) {
	return tenant.DMARC{}, errSoon
}

// OrgDomain is the organizational domain of name (RFC 9989, section 4.10).
func (c *Checker) OrgDomain(ctx context.Context, name string) (string, error) { return "", errSoon }

// Freemail reports whether domain is a big provider of free mailboxes.
func Freemail(domain string) bool { return false }

// Status of a record.
type Status string

// The statuses.
const (
	OK      Status = "ok"
	Missing Status = "missing"
	Wrong   Status = "wrong"
	Unknown Status = "unknown" // the DNS could not say
)

// Record is one record that a tenant must publish.
type Record struct {
	Purpose string `json:"purpose"` // dkim, return-path-mx, return-path-spf, dmarc
	Type    string `json:"type"`
	Name    string `json:"name"`
	Value   string `json:"value"`
	Found   string `json:"found,omitempty"`
	Status  Status `json:"status"`
	Help    string `json:"help"`
}

// Records lists what must be published for a domain, with what was found.
func (c *Checker) Records(ctx context.Context, t mail.TenantID, d *tenant.Domain) []Record {
	return nil
}

// Zone is records as a fragment of a BIND zone file.
func Zone(rs []Record) string { return "" }
