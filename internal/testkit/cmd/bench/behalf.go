package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// What the relay under test gets to know: a tenant whose provider takes mail as
// it is, and one whose mail is signed with its domain's RSA-2048 key on the way
// to the same hop.
const resources = `kind: tenant
name: plain
labels: { plan: enterprise }
methods: [connection]
route: [ { connection: hop } ]
---
kind: credential
tenant: plain
name: app
secret: %[1]s
---
kind: identity
tenant: plain
address: "*@plain.test"
verified: true
---
kind: connection
tenant: plain
name: hop
provider: smtp
senders: [billing@plain.test, "*@plain.test"]
smtp: { host: 127.0.0.1, port: %[2]d, security: none }
---
kind: tenant
name: signed
labels: { plan: enterprise }
methods: [domain]
route: [ { connection: hop } ]
---
kind: credential
tenant: signed
name: app
secret: %[1]s
---
kind: domain
tenant: signed
name: sender.test
return_path: bounce
dkim: [ { selector: s1, algorithm: rsa-2048, key: "file:%[3]s" } ]
verified: true
---
kind: connection
tenant: signed
name: hop
provider: smtp
senders: [billing@sender.test, "*@sender.test"]
envelope: any
smtp: { host: 127.0.0.1, port: %[2]d, security: none }
`

const secret = "benchmark-secret-of-no-value-at-all-0123456789"

// behalf is the relay under test with its defaults: nothing is tuned.
type behalf struct {
	program, dir, data string
	submission, http   int
	dns                *dns.Server
	answer             *answer
}

// newBehalf writes the configuration and publishes the key in a DNS of its own.
func newBehalf(program, dir string, next int) (*behalf, error) {
	b := &behalf{program: program, dir: dir, data: filepath.Join(dir, "data"), answer: &answer{records: map[string]dns.RR{}}}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	key, err := b.key()
	if err != nil {
		return nil, err
	}
	for _, p := range []*int{&b.submission, &b.http} {
		if *p, err = freePort(); err != nil {
			return nil, err
		}
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b.dns = &dns.Server{PacketConn: pc, Handler: b.answer}
	go func() { _ = b.dns.ActivateAndServe() }() // ends with Shutdown
	config := fmt.Sprintf("hostname: relay.bench.test\nplatform_domain: bench.test\ndata: %s\nlisten: { submission: \"127.0.0.1:%d\", http: \"127.0.0.1:%d\" }\nresolver: { servers: [\"%s\"] }\negress: { allow: [127.0.0.0/8] }\n",
		b.data, b.submission, b.http, pc.LocalAddr())
	return b, errors.Join(
		os.WriteFile(filepath.Join(dir, "behalf.yaml"), []byte(config), 0o644),
		os.WriteFile(filepath.Join(dir, "tenants.yaml"), fmt.Appendf(nil, resources, secret, next, key), 0o644))
}

// key makes the key of sender.test and gives its file.
func (b *behalf) key() (string, error) {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	public, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		return "", err
	}
	txt := "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(public)
	for name, rr := range map[string]string{
		"s1._domainkey.sender.test. TXT": `"` + txt[:250] + `" "` + txt[250:] + `"`,
		"bounce.sender.test. MX":         "10 relay.bench.test.",
		"bounce.sender.test. TXT":        `"v=spf1 a:relay.bench.test ~all"`,
		"_dmarc.sender.test. TXT":        `"v=DMARC1; p=none"`,
	} {
		if err := b.answer.add(name, rr); err != nil {
			return "", err
		}
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return "", err
	}
	path := filepath.Join(b.dir, "sender.test.pem")
	return path, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)
}

// start runs the relay, on what it left when it ran before.
func (b *behalf) start(ctx context.Context) (*relay, error) {
	args := []string{"serve", "--config", filepath.Join(b.dir, "behalf.yaml"), "--apply", filepath.Join(b.dir, "tenants.yaml")}
	began := time.Now()
	cmd, stop, err := spawn(b.dir, b.program, args...)
	if err != nil {
		return nil, err
	}
	addr := "127.0.0.1:" + strconv.Itoa(b.submission)
	if err := errors.Join(answers(ctx, addr), b.ready(ctx)); err != nil {
		log, _ := os.ReadFile(filepath.Join(b.dir, filepath.Base(b.program)+".log")) // for the message
		return nil, errors.Join(err, stop(), errors.New(string(log)))
	}
	return &relay{name: "Behalf", load: load{addr: addr, from: "billing@plain.test", user: "plain/app", pass: secret},
		pids: []int{cmd.Process.Pid}, stop: stop, flush: b.retryAll, afterStart: time.Since(began)}, nil
}

// signing is the same relay, asked to sign.
func (r *relay) signing() *relay {
	s := *r
	s.load.from, s.load.user, s.signs = "billing@sender.test", "signed/app", true
	return &s
}

func (b *behalf) ready(ctx context.Context) error {
	for range 600 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+strconv.Itoa(b.http)+"/healthz", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("the relay does not get ready")
}

func (b *behalf) close() error { return b.dns.Shutdown() }

// answer serves the records it has, and NXDOMAIN.
type answer struct{ records map[string]dns.RR }

func (a *answer) add(nameAndType, value string) error {
	name, kind, _ := strings.Cut(nameAndType, " ")
	rr, err := dns.NewRR(name + " 300 IN " + kind + " " + value)
	if err != nil {
		return fmt.Errorf("the record of %s: %w", name, err)
	}
	a.records[nameAndType] = rr
	return nil
}

// ServeDNS answers one question.
func (a *answer) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative, m.Rcode = true, dns.RcodeNameError
	if len(q.Question) == 1 {
		name := strings.ToLower(q.Question[0].Name)
		for key, rr := range a.records {
			if strings.HasPrefix(key, name+" ") {
				m.Rcode = dns.RcodeSuccess
				if rr.Header().Rrtype == q.Question[0].Qtype {
					m.Answer = append(m.Answer, rr)
				}
			}
		}
	}
	_ = w.WriteMsg(m) // who asked asks again
}
