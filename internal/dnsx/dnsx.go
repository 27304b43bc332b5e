// Package dnsx asks the DNS. A Resolver tells apart the three answers that mail
// must not confuse: there is such a record, there certainly is none, and nobody
// could say.
package dnsx

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// ErrTemporary is wrapped by every failure after which asking again may help:
// timeouts, SERVFAIL, refused. Only a certain "no" gives an empty Answer.
var ErrTemporary = errors.New("dns: temporary failure")

// Answer says how an answer came about.
type Answer struct {
	NXDomain bool          // the name does not exist at all
	Secure   bool          // the AD bit of a resolver that is trusted for it
	TTL      time.Duration // how long it may be kept
}

// MX is one mail exchanger; Host has no final dot and is lower case. A null MX
// (RFC 7505) is one MX with an empty Host.
type MX struct {
	Pref uint16
	Host string
}

// Resolver asks for records. Names are given without a final dot. A name that
// exists without such records gives an empty list and a nil error.
type Resolver interface {
	TXT(ctx context.Context, name string) ([]string, Answer, error)       // strings of a record joined
	MX(ctx context.Context, name string) ([]MX, Answer, error)            // sorted by preference
	Addrs(ctx context.Context, name string) ([]netip.Addr, Answer, error) // AAAA and A
	CNAME(ctx context.Context, name string) (string, Answer, error)       // one step; "" if none
	PTR(ctx context.Context, addr netip.Addr) ([]string, Answer, error)
}
