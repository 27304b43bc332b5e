package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"behalf/internal/testkit/cmd/bench/load"
)

const secret = "benchmark-secret-of-no-value-at-all-0123456789"

// tenant, credential, identity and connection are resources; the hop takes mail
// as it is.
const (
	tenantText     = "kind: tenant\nname: %s\nlabels: { plan: enterprise }\nmethods: [%s]\nroute: [ { %s } ]\n---\n"
	credentialText = "kind: credential\ntenant: %s\nname: app\nsecret: " + secret + "\n---\n"
	identityText   = "kind: identity\ntenant: %[1]s\naddress: \"*@%[1]s.test\"\nverified: true\n---\n"
	domainText     = "kind: domain\ntenant: %s\nname: %s\nreturn_path: bounce\ndkim: [ { selector: s1, algorithm: %s, key: \"file:%s\" } ]\nverified: true\n---\n"
	connectionText = "kind: connection\ntenant: %[1]s\nname: hop\nprovider: smtp\nsenders: [billing@%[2]s, \"*@%[2]s\"]\nenvelope: %[3]s\nsmtp: { host: 127.0.0.1, port: %[4]d, security: none }\n---\n"
)

// plainTenant has a provider that takes its mail at that port as it is.
func plainTenant(name string, port int) string {
	return fmt.Sprintf(tenantText, name, "connection", "connection: hop") + fmt.Sprintf(credentialText, name) +
		fmt.Sprintf(identityText, name) + fmt.Sprintf(connectionText, name, name+".test", "account", port)
}

func plainAccount(name string) load.Account {
	return load.Account{From: "billing@" + name + ".test", User: name + "/app", Pass: secret}
}

// plainDocuments are the resources of plainTenant for the API.
func plainDocuments(name string, port int) [][2]string {
	return [][2]string{
		{"tenants", fmt.Sprintf(`{"kind":"tenant","name":%q,"labels":{"plan":"enterprise"},"methods":["connection"],"route":[{"connection":"hop"}]}`, name)},
		{"credentials", fmt.Sprintf(`{"kind":"credential","tenant":%q,"name":"app","secret":%q}`, name, secret)},
		{"identities", fmt.Sprintf(`{"kind":"identity","tenant":%q,"address":%q,"verified":true}`, name, "*@"+name+".test")},
		{"connections", fmt.Sprintf(`{"kind":"connection","tenant":%q,"name":"hop","provider":"smtp","senders":[%q,%q],"smtp":{"host":"127.0.0.1","port":%d,"security":"none"}}`, name, "billing@"+name+".test", "*@"+name+".test", port)},
	}
}

// signedTenant has its mail signed with its domain's RSA-2048 key on the way to
// the hop at that port.
func (b *behalf) signedTenant(port int) (string, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	path, err := b.publish("sender.test", "rsa", key, &key.PublicKey)
	return fmt.Sprintf(tenantText, "signed", "domain", "connection: hop") + fmt.Sprintf(credentialText, "signed") +
		fmt.Sprintf(domainText, "signed", "sender.test", "rsa-2048", path) + fmt.Sprintf(connectionText, "signed", "sender.test", "any", port), err
}

var signedAccount = load.Account{From: "billing@sender.test", User: "signed/app", Pass: secret}

// directTenant sends straight to the exchangers of its recipients, signed with
// Ed25519, which costs little.
func (b *behalf) directTenant() (string, error) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	path, err := b.publish("direct.test", "ed25519", key, public)
	return fmt.Sprintf(tenantText, "direct", "domain", "upstream: mx") + fmt.Sprintf(credentialText, "direct") +
		fmt.Sprintf(domainText, "direct", "direct.test", "ed25519", path), err
}

// publish shows a key and what else a domain needs in the DNS, and gives the
// file with its private part.
func (b *behalf) publish(domain, kind string, private, public any) (path string, err error) {
	shown, ok := public.(ed25519.PublicKey)
	if !ok {
		if shown, err = x509.MarshalPKIXPublicKey(public); err != nil {
			return "", err
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", err
	}
	for _, r := range [][3]string{
		{"s1._domainkey." + domain, "TXT", quoted("v=DKIM1; k=" + kind + "; p=" + base64.StdEncoding.EncodeToString(shown))},
		{"bounce." + domain, "MX", "10 relay.bench.test."},
		{"bounce." + domain, "TXT", `"v=spf1 a:relay.bench.test ~all"`},
		{"_dmarc." + domain, "TXT", `"v=DMARC1; p=none"`},
	} {
		if err := b.dns.add(r[0], r[1], r[2]); err != nil {
			return "", err
		}
	}
	path = filepath.Join(b.dir, domain+".pem")
	return path, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// quoted splits a text into strings of 250 octets, as a TXT record wants.
func quoted(s string) (q string) {
	for ; len(s) > 250; s = s[250:] {
		q += `"` + s[:250] + `" `
	}
	return q + `"` + s + `"`
}
