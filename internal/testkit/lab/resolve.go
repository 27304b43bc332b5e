package lab

import (
	"time"

	"github.com/miekg/dns"
)

// Resolves reports whether the server at addr knows such a record.
func Resolves(addr, name, kind string) bool {
	c := &dns.Client{Timeout: time.Second}
	in, _, err := c.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.StringToType[kind]), addr)
	return err == nil && len(in.Answer) > 0
}
