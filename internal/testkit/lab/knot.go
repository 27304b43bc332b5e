package lab

import (
	"fmt"
	"strings"
	"testing"
)

// Knot is a real DNS server that is authoritative for the root, and so for
// whatever names a test makes up.
type Knot struct {
	*Process
	Addr string // host:port, UDP and TCP
}

// StartKnot serves records, given one a line as in a zone file with absolute
// names.
func StartKnot(t testing.TB, records string) *Knot {
	t.Helper()
	knotd := Program(t, "knotd")
	dir, ip, port := Dir(t), IP(), Port(t)
	k := &Knot{Addr: Addr(ip, port)}
	Write(t, dir, "root.zone", rootZone(1, records))
	conf := Write(t, dir, "knot.conf", fmt.Sprintf(`
server:
    rundir: %[1]s
    listen: %[2]s@%[3]d
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: %[1]s/db
log:
  - target: stderr
    any: warning
zone:
  - domain: .
    storage: %[1]s
    file: root.zone
    zonefile-load: whole
    zonefile-sync: -1
    journal-content: none
`, dir, ip, port))
	k.Process = Spawn(t, nil, knotd, "-c", conf)
	Listens(t, k.Addr)
	Until(t, patience, "the zone", func() bool { return Resolves(k.Addr, ".", "SOA") })
	return k
}

func rootZone(serial int, records string) string {
	return fmt.Sprintf("$ORIGIN .\n$TTL 5\n@ SOA ns.test. hostmaster.test. %d 3600 600 86400 5\n@ NS ns.test.\nns.test. A 127.0.0.1\n", serial) + records
}

// TXT is a record with a value of any length.
func TXT(name, value string) string {
	var parts []string
	for len(value) > 255 {
		parts = append(parts, value[:255])
		value = value[255:]
	}
	return fmt.Sprintf("%s. TXT \"%s\"\n", name, strings.Join(append(parts, value), `" "`))
}

// MX is a domain's exchanger with its address, which the reverse zone knows too.
func MX(domain, host, ip string) string {
	o := strings.Split(ip, ".")
	return fmt.Sprintf("%s. MX 10 %s.\n%s. A %s\n%s.%s.%s.%s.in-addr.arpa. PTR %s.\n", domain, host, host, ip, o[3], o[2], o[1], o[0], host)
}
