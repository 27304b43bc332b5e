package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/miekg/dns"
)

// records reads its files anew at every question, so that what is published
// counts at once.
type records struct{ zone, published string }

// all gives the records by lower-case name.
func (r *records) all() (map[string][]dns.RR, error) {
	text, err := os.ReadFile(r.zone)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(r.published, "*.json"))
	if err != nil {
		return nil, err
	}
	zone := string(text)
	for _, f := range files {
		more, err := publishedRecords(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		zone += more
	}
	all := map[string][]dns.RR{}
	p := dns.NewZoneParser(strings.NewReader(zone), "", r.zone)
	p.SetDefaultTTL(1)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		name := strings.ToLower(rr.Header().Name)
		all[name] = append(all[name], rr)
	}
	return all, p.Err()
}

// publishedRecords are those that a tenant is asked for, but for DMARC, where
// the zone has a policy of its own.
func publishedRecords(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var list []struct{ Purpose, Type, Name, Value string }
	if err := json.Unmarshal(b, &list); err != nil {
		return "", err
	}
	var zone strings.Builder
	for _, r := range list {
		switch {
		case r.Purpose == "dmarc":
		case r.Type == "TXT":
			var parts []string
			for len(r.Value) > 255 {
				parts, r.Value = append(parts, r.Value[:255]), r.Value[255:]
			}
			fmt.Fprintf(&zone, "%s. TXT \"%s\"\n", r.Name, strings.Join(append(parts, r.Value), `" "`))
		default:
			fmt.Fprintf(&zone, "%s. %s %s\n", r.Name, r.Type, r.Value)
		}
	}
	return zone.String(), nil
}

func (r *records) answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	all, err := r.all()
	if err != nil || len(q.Question) != 1 {
		m.Rcode = dns.RcodeServerFailure
		fmt.Fprintln(os.Stderr, "dns:", err)
	} else {
		r.find(m, all, q.Question[0])
	}
	_ = w.WriteMsg(m) // who asked asks again
}

func (r *records) find(m *dns.Msg, all map[string][]dns.RR, q dns.Question) {
	name := strings.ToLower(q.Name)
	exists := false
	for n := range all {
		exists = exists || n == name || strings.HasSuffix(n, "."+name)
	}
	for _, rr := range all[name] {
		if rr.Header().Rrtype == q.Qtype {
			m.Answer = append(m.Answer, rr)
		}
	}
	if !exists {
		m.Rcode = dns.RcodeNameError
	}
	if len(m.Answer) == 0 { // nobody shall remember for long that there was nothing
		m.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 1}, Ns: "ns.test.", Mbox: "hostmaster.test.", Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: 1}}
	}
}

// serveDNS answers over UDP and TCP until stop is called.
func serveDNS(addr string, r *records) (stop func(), err error) {
	if _, err := r.all(); err != nil {
		return nil, err
	}
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		_ = pc.Close()
		return nil, err
	}
	servers := []*dns.Server{{PacketConn: pc, Handler: dns.HandlerFunc(r.answer)}, {Listener: ln, Handler: dns.HandlerFunc(r.answer)}}
	done := make(chan struct{}, len(servers))
	for _, s := range servers {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer func() { done <- struct{}{} }()
			if err := s.ActivateAndServe(); err != nil {
				fmt.Fprintln(os.Stderr, "dns:", err)
			}
		}()
		<-started
	}
	return func() {
		for _, s := range servers {
			_ = s.Shutdown() // it was started
			<-done
		}
	}, nil
}
