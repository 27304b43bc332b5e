package main

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// zone is the DNS of a relay under test. It has the records that were added, and
// says of every domain d000000.test to d999999.test
// that the sink takes its mail.
type zone struct {
	server *dns.Server
	addr   string
	served chan error // how serving ended

	mu      sync.RWMutex
	records map[string][]dns.RR // by name in lower case
}

// destination is the name of one of a million domains.
func destination(i int) string { return fmt.Sprintf("d%06d.test", i) }

var isDestination = regexp.MustCompile(`^d[0-9]{6}\.test\.$`)

func newZone() (*zone, error) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for questions to the DNS: %w", err)
	}
	z := &zone{addr: pc.LocalAddr().String(), records: map[string][]dns.RR{}, served: make(chan error, 1)}
	started := make(chan struct{})
	z.server = &dns.Server{PacketConn: pc, Handler: z, NotifyStartedFunc: func() { close(started) }}
	go func() { z.served <- z.server.ActivateAndServe() }()
	select {
	case <-started:
	case err := <-z.served:
		return nil, fmt.Errorf("serving the DNS: %w", err)
	}
	return z, z.add("mx.sink.test", "A", "127.0.0.1")
}

func (z *zone) add(name, kind, value string) error {
	rr, err := dns.NewRR(name + ". 3600 IN " + kind + " " + value)
	if err != nil {
		return fmt.Errorf("the record of %s: %w", name, err)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records[name+"."] = append(z.records[name+"."], rr)
	return nil
}

// ServeDNS answers one question.
func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative, m.Rcode = true, dns.RcodeNameError
	if len(q.Question) == 1 {
		name, kind := strings.ToLower(q.Question[0].Name), q.Question[0].Qtype
		z.mu.RLock()
		records := z.records[name] // what is there stays as it is
		z.mu.RUnlock()
		for _, rr := range records {
			m.Rcode = dns.RcodeSuccess
			if rr.Header().Rrtype == kind {
				m.Answer = append(m.Answer, rr)
			}
		}
		if isDestination.MatchString(name) {
			m.Rcode = dns.RcodeSuccess
			if kind == dns.TypeMX {
				m.Answer = append(m.Answer, &dns.MX{Hdr: dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: 3600}, Preference: 10, Mx: "mx.sink.test."})
			}
		}
	}
	_ = w.WriteMsg(m) // who asked asks again
}

func (z *zone) close() error { return errors.Join(z.server.Shutdown(), <-z.served) }
