// Package dnsserver is an authoritative DNS server for tests, on loopback, UDP
// and TCP, that also fails on command and keeps a log of what it was asked.
package dnsserver

import (
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// Query is one question that the server got.
type Query struct {
	Name string // lower case, without the final dot
	Type string // e.g. TXT
	TCP  bool
}

// Server answers from its records. A name that has records below it or of
// another type exists; any other is NXDOMAIN.
type Server struct {
	addr string

	mu      sync.Mutex
	records map[string][]dns.RR // by lower-case name with the final dot
	faults  map[string]Fault    // by name; "" is every name
	secure  bool
	log     []Query
}

// Fault is what the server does instead of answering.
type Fault int

// The faults.
const (
	None     Fault = iota
	Servfail       // answers SERVFAIL
	Refused        // answers REFUSED
	NXDomain       // says that the name does not exist
	Silent         // does not answer at all
	Truncate       // sets TC over UDP, answers in full over TCP
	Lie            // answers another question than was asked
	Garbage        // sends octets that are no DNS message
)

// Start serves zone until the test ends. The zone is master file text with
// absolute names; a default TTL of 300 applies. Names of several zones may be
// mixed.
func Start(t testing.TB, zone string) *Server {
	t.Helper()
	s := &Server{records: map[string][]dns.RR{}, faults: map[string]Fault{}}
	s.Set(t, zone)
	pc, ln := listen(t)
	s.addr = pc.LocalAddr().String()
	for _, srv := range []*dns.Server{{PacketConn: pc}, {Listener: ln}} {
		ready, done := make(chan struct{}), make(chan struct{})
		srv.NotifyStartedFunc = func() { close(ready) }
		srv.Handler = dns.HandlerFunc(s.answer)
		go func() {
			defer close(done)
			if err := srv.ActivateAndServe(); err != nil {
				t.Errorf("dnsserver: %v", err)
			}
		}()
		<-ready
		t.Cleanup(func() {
			srv.Shutdown()
			<-done
		})
	}
	return s
}

// listen takes a port that is free for UDP and for TCP.
func listen(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, ln
		}
		pc.Close()
	}
	t.Fatal("dnsserver: no port is free for both UDP and TCP")
	return nil, nil
}

// Addr is host:port, the same for UDP and TCP.
func (s *Server) Addr() string { return s.addr }

// Set replaces all records.
func (s *Server) Set(t testing.TB, zone string) {
	t.Helper()
	records := map[string][]dns.RR{}
	zp := dns.NewZoneParser(strings.NewReader("$TTL 300\n"+zone), ".", "")
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		name := strings.ToLower(rr.Header().Name)
		records[name] = append(records[name], rr)
	}
	if err := zp.Err(); err != nil {
		t.Fatalf("dnsserver: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = records
}

// Fail makes every question for name end in fault; None ends that. An empty
// name means every name without a fault of its own.
func (s *Server) Fail(name string, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name != "" {
		name = dns.Fqdn(strings.ToLower(name))
	}
	s.faults[name] = f
}

// Secure makes the server set the AD bit.
func (s *Server) Secure(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secure = on
}

// Log gives what was asked since the last call.
func (s *Server) Log() []Query {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.log
	s.log = nil
	return l
}

func (s *Server) answer(w dns.ResponseWriter, q *dns.Msg) {
	if len(q.Question) != 1 {
		return
	}
	name, qtype := strings.ToLower(q.Question[0].Name), q.Question[0].Qtype
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	s.mu.Lock()
	s.log = append(s.log, Query{strings.TrimSuffix(name, "."), dns.TypeToString[qtype], !udp})
	fault, own := s.faults[name]
	if !own {
		fault = s.faults[""]
	}
	r := new(dns.Msg).SetReply(q)
	r.Authoritative, r.RecursionAvailable, r.AuthenticatedData = true, true, s.secure
	s.fill(r, name, qtype)
	s.mu.Unlock()
	switch fault {
	case Servfail:
		r.Rcode, r.Answer = dns.RcodeServerFailure, nil
	case Refused:
		r.Rcode, r.Answer = dns.RcodeRefused, nil
	case NXDomain:
		r.Rcode, r.Answer = dns.RcodeNameError, nil
	case Silent:
		return
	case Truncate:
		if udp {
			r.Truncated, r.Answer = true, nil
		}
	case Lie:
		r.Question[0].Name = "lie." + r.Question[0].Name
	case Garbage:
		w.Write([]byte{1, 2, 3})
		return
	}
	if opt := q.IsEdns0(); udp {
		size := uint16(512)
		if opt != nil {
			size = opt.UDPSize()
			r.SetEdns0(size, false)
		}
		r.Truncate(int(size))
	}
	w.WriteMsg(r)
}

// fill puts the records for a question into r, following CNAMEs as a recursive
// server does.
func (s *Server) fill(r *dns.Msg, name string, qtype uint16) {
	for range 20 {
		found, exists := s.find(name)
		if !exists {
			r.Rcode = dns.RcodeNameError
		}
		next := ""
		for _, rr := range found {
			c, isAlias := rr.(*dns.CNAME)
			if rr.Header().Rrtype == qtype || isAlias {
				r.Answer = append(r.Answer, rr)
			}
			if isAlias && qtype != dns.TypeCNAME {
				next = strings.ToLower(c.Target)
			}
		}
		if next == "" {
			break
		}
		name = next
	}
	soa := &dns.SOA{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60}, Ns: ".", Mbox: ".", Minttl: 60}
	r.Ns = append(r.Ns, soa)
}

// find gives the records of name, or of a wildcard above it.
func (s *Server) find(name string) (found []dns.RR, exists bool) {
	if rrs, ok := s.records[name]; ok {
		return rrs, true
	}
	for other := range s.records {
		if strings.HasSuffix(other, "."+name) {
			return nil, true // an empty non-terminal
		}
	}
	for rest := name; ; {
		i := strings.IndexByte(rest, '.')
		if i < 0 || i == len(rest)-1 {
			return nil, false
		}
		rest = rest[i+1:]
		wild, ok := s.records["*."+rest]
		if !ok {
			continue
		}
		for _, rr := range wild {
			rr = dns.Copy(rr)
			rr.Header().Name = name
			found = append(found, rr)
		}
		return found, true
	}
}
