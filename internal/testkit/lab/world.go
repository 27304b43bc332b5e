package lab

import (
	"fmt"
	"strings"
	"testing"

	"behalf/internal/testkit/smtppeer"
)

// World is the DNS and the receivers around a relay.
//
// The tenant's domain acme.test has keys, a return path and DMARC policy reject.
// strict.test asks for rejection, wary.test for quarantine, open.test for
// nothing. The platform's domains have policy reject and keys. Mail to
// sink.test comes to Sink.
type World struct {
	DNS    *Knot
	MXPort int
	Sink   *smtppeer.Peer
	Acme   DKIM
	Send   DKIM // of send.platform.test
	Zone   string
}

// NewWorld starts a DNS server and the sink, which behaves as told. The records
// in zone are added.
func NewWorld(t testing.TB, zone func(w *World) string, on func(smtppeer.Step) smtppeer.Action) *World {
	t.Helper()
	dir := Dir(t)
	w := &World{MXPort: Port(t), Acme: NewDKIM(t, dir, "acme.test"), Send: NewDKIM(t, dir, "send.platform.test")}
	w.Sink = w.NewSink(t, smtppeer.Options{On: on})
	w.Zone = w.Acme.Zone + w.Send.Zone +
		returnPath("bounce.acme.test") + returnPath("bounce.send.platform.test") +
		"relay.platform.test. A 127.0.0.1\n1.0.0.127.in-addr.arpa. PTR relay.platform.test.\n" +
		MX("acme.test", "sink.acme.test", w.Sink.Host()) +
		MX("platform.test", "sink.platform.test", w.Sink.Host()) +
		MX("sink.test", "mx.sink.test", w.Sink.Host())
	for domain, policy := range map[string]string{"acme.test": "reject", "platform.test": "reject", "strict.test": "reject", "wary.test": "quarantine", "open.test": "none"} {
		w.Zone += TXT("_dmarc."+domain, "v=DMARC1; p="+policy)
	}
	if zone != nil {
		w.Zone += zone(w)
	}
	w.DNS = StartKnot(t, w.Zone)
	return w
}

// NewSink starts one more receiver at an address of its own and the port of all.
func (w *World) NewSink(t testing.TB, o smtppeer.Options) *smtppeer.Peer {
	t.Helper()
	o.Addr = Addr(IP(), w.MXPort)
	if o.TLS == nil {
		o.TLS = NewCertificate(t, "mx.sink.test").Config
	}
	return smtppeer.Start(t, o)
}

func returnPath(host string) string {
	return fmt.Sprintf("%s. MX 10 relay.platform.test.\n", host) + TXT(host, "v=spf1 ip4:127.0.0.1 ~all")
}

// The credentials of Tenants.
const (
	AcmeUser       = "acme/app"
	AcmeSecret     = "acme-secret-0123456789abcdefghijklmnopqrstuvwxyz"
	PlatformUser   = "platform/app"
	PlatformSecret = "platform-secret-0123456789abcdefghijklmnopqrstuv"
)

// Tenants are the resources that most tests want: tenant acme with its domain
// by route, in YAML flow style, and a platform credential for all tenants.
func (w *World) Tenants(route string) string {
	return fmt.Sprintf(`kind: tenant
name: acme
labels: { plan: enterprise }
methods: [domain, connection, name]
allow_from_change: true
notify: ops@acme.test
route: %s
---
kind: credential
tenant: acme
name: app
secret: %s
---
kind: credential
scope: platform
tenants: ["*"]
name: app
secret: %s
---
kind: domain
tenant: acme
name: acme.test
return_path: bounce
dkim: [ { selector: b1, algorithm: rsa-2048, key: "file:%s" }, { selector: b2, algorithm: ed25519, key: "file:%s" } ]
verified: true
---
kind: identity
tenant: acme
address: support@acme.test
display_name: Acme Support
verified: true
`, route, AcmeSecret, PlatformSecret, w.Acme.RSAFile, w.Acme.EdFile)
}

// Relay starts a relay in this world; its resources are Tenants with the way
// by MX, unless o has others.
func (w *World) Relay(t testing.TB, o RelayOptions) *Relay {
	t.Helper()
	o.DNS, o.MXPort, o.Keys = w.DNS.Addr, w.MXPort, &w.Send
	if o.Resources == "" {
		o.Resources = w.Tenants("[ { upstream: mx } ]")
	}
	return StartRelay(t, o)
}

// Arrived waits for a message in which the text stands, and gives it.
func Arrived(t testing.TB, p *smtppeer.Peer, text string) smtppeer.Message {
	t.Helper()
	var got smtppeer.Message
	Until(t, patience, "a message with "+text, func() bool {
		for _, m := range p.Messages() {
			if strings.Contains(m.Data, text) {
				got = m
				return true
			}
		}
		return false
	})
	return got
}

// Count says how many messages arrived in which the text stands.
func Count(p *smtppeer.Peer, text string) int {
	n := 0
	for _, m := range p.Messages() {
		if strings.Contains(m.Data, text) {
			n++
		}
	}
	return n
}
