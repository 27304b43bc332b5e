package smtppeer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"testing"

	"behalf/internal/testkit/cert"
)

// Certificate makes a self-signed certificate for names and addresses, and the
// pool of roots that trusts it.
func Certificate(t testing.TB, names ...string) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	conf := cert.SelfSigned(t, key, names...)
	pool := x509.NewCertPool()
	pool.AddCert(conf.Certificates[0].Leaf)
	return conf, pool
}
