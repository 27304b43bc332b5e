package sign

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"
)

func TestPrivateKeysRoundTrip(t *testing.T) {
	for _, k := range testKeys() {
		text, err := MarshalPrivate(k.Signer)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParsePrivate(append([]byte("some text before\n"), text...))
		if err != nil {
			t.Fatal(err)
		}
		if g := (Key{"", "", got}); g.Algorithm() != k.Algorithm() || !recordOf(t, k).Matches(got.Public()) {
			t.Errorf("%s came back as %s", k, g)
		}
	}
	r := testKeys()[0].Signer.(*rsa.PrivateKey)
	old := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(r)})
	if got, err := ParsePrivate(old); err != nil || !r.Equal(got) {
		t.Errorf("PKCS #1: %v", err)
	}
}

func recordOf(t *testing.T, k Key) Record {
	t.Helper()
	txt, err := PublicRecord(k.Signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseRecord(txt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParsePrivateRefuses(t *testing.T) {
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, _ := x509.MarshalPKCS8PrivateKey(ec)
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	for name, c := range map[string]struct {
		in   []byte
		says string
	}{
		"nothing":     {nil, "no private key"},
		"a public":    {block("PUBLIC KEY", []byte("x")), "no private key"},
		"damaged":     {block("PRIVATE KEY", []byte("x")), "damaged"},
		"damaged RSA": {block("RSA PRIVATE KEY", []byte("x")), "damaged"},
		"encrypted":   {block("ENCRYPTED PRIVATE KEY", []byte("x")), "decrypt"},
		"EC":          {block("PRIVATE KEY", der), "RSA and Ed25519"},
	} {
		if _, err := ParsePrivate(c.in); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bits := range []int{512, 8192} {
		if _, err := GenerateRSA(bits); err == nil {
			t.Errorf("made an RSA key of %d bits", bits)
		}
	}
	if _, err := PublicRecord(ec.Public()); err == nil {
		t.Error("published an EC key")
	}
}

func TestParseRecord(t *testing.T) {
	rsaTxt, _ := PublicRecord(testKeys()[0].Signer.Public())
	edTxt, _ := PublicRecord(testKeys()[1].Signer.Public())
	_, rsaP, _ := strings.Cut(rsaTxt, "p=")
	_, edP, _ := strings.Cut(edTxt, "p=")
	pkcs1 := base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PublicKey(testKeys()[0].Signer.Public().(*rsa.PublicKey)))
	for name, txt := range map[string]string{
		"ours":        rsaTxt,
		"order":       "p=" + rsaP + "; k=rsa; v=DKIM1",
		"bare":        "p=" + rsaP,
		"blanks":      " v = DKIM1 ;\t k = RSA ;p= " + rsaP[:20] + " \r\n\t" + rsaP[20:] + " ; ",
		"unknown":     "v=DKIM1; n=note; x=y; g=*; p=" + rsaP,
		"hash":        "v=DKIM1; h=sha1:sha256; s=other:email; p=" + rsaP,
		"pkcs1":       "v=DKIM1; p=" + pkcs1,
		"any service": "s=*;p=" + rsaP,
	} {
		r, err := ParseRecord(txt)
		if err != nil || !r.Matches(testKeys()[0].Signer.Public()) || r.Matches(testKeys()[1].Signer.Public()) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if r, err := ParseRecord("k=ed25519; t = y : s; p=" + edP); err != nil || !r.Matches(testKeys()[1].Signer.Public()) || !r.Testing || !r.Strict {
		t.Errorf("ed25519: %+v, %v", r, err)
	}
	if r, err := ParseRecord("v=DKIM1; p="); err != nil || !r.Revoked || r.Matches(testKeys()[0].Signer.Public()) {
		t.Errorf("revoked: %+v, %v", r, err)
	}
	for name, txt := range map[string]string{
		"empty": "", "spf": "v=spf1 -all", "version": "v=DKIM2; p=" + rsaP, "no p": "v=DKIM1; k=rsa", "two p": "p=" + rsaP + ";p=" + rsaP,
		"cut": "p=" + rsaP[:100], "stray": "p=" + rsaP[:10] + "%" + rsaP[10:], "kind": "k=ed25519; p=" + rsaP, "other kind": "k=ecdsa; p=" + rsaP,
		"sha1 only": "h=sha1; p=" + rsaP, "not mail": "s=tlsrpt; p=" + rsaP, "no tag": "hello; p=" + rsaP, "ed as rsa": "k=rsa; p=" + edP,
	} {
		if r, err := ParseRecord(txt); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, s := range []string{"v=DKIM1; k=rsa; p=", "p=AAAA", "k=ed25519;p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", ";;=;p"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRecord(s)
		if err == nil && r.Public == nil != r.Revoked {
			t.Fatalf("%q: %+v", s, r)
		}
	})
}
