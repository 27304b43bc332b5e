package lab

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"path/filepath"
	"sync"
	"testing"

	"behalf/internal/testkit/cert"
)

// DKIM is a pair of signing keys of a domain, with selectors b1 (RSA) and b2
// (Ed25519).
type DKIM struct {
	RSAFile, EdFile string // PEM
	Zone            string // the records that show them
}

// NewDKIM makes keys for a domain and puts them into a folder.
func NewDKIM(t testing.TB, dir, domain string) DKIM {
	t.Helper()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rpub, err := x509.MarshalPKIXPublicKey(&r.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	epub, e, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	return DKIM{
		RSAFile: Write(t, dir, domain+".rsa.pem", pemKey(t, r)),
		EdFile:  Write(t, dir, domain+".ed25519.pem", pemKey(t, e)),
		Zone: TXT("b1._domainkey."+domain, "v=DKIM1; k=rsa; p="+b64(rpub)) +
			TXT("b2._domainkey."+domain, "v=DKIM1; k=ed25519; p="+b64(epub)),
	}
}

func pemKey(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// Certificate is a self-signed certificate in files.
type Certificate struct {
	CertFile, KeyFile string
	Config            *tls.Config // of a server that shows it
}

// serverKey is one for all certificates, as making one takes long.
var serverKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// NewCertificate makes a certificate for names and addresses.
func NewCertificate(t testing.TB, names ...string) Certificate {
	t.Helper()
	key, err := serverKey() // RSA, which every server can use
	if err != nil {
		t.Fatal(err)
	}
	conf := cert.SelfSigned(t, key, names...)
	dir := Dir(t)
	c := Certificate{KeyFile: Write(t, dir, "key.pem", pemKey(t, key)), CertFile: filepath.Join(dir, "cert.pem"), Config: conf}
	Write(t, dir, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: conf.Certificates[0].Certificate[0]})))
	return c
}
