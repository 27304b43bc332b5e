package lab

import (
	"context"
	"net"
	"time"

	"github.com/miekg/dns"
)

// Resolver asks only the server at addr.
func Resolver(addr string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}
}

// Resolves reports whether the server at addr knows such a record.
func Resolves(addr, name, kind string) bool {
	c := &dns.Client{Timeout: time.Second}
	in, _, err := c.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.StringToType[kind]), addr)
	return err == nil && len(in.Answer) > 0
}
