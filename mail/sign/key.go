package sign

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// GenerateRSA makes an RSA key; 2048 bits is what providers ask for.
func GenerateRSA(bits int) (crypto.Signer, error) {
	if bits < 1024 || bits > 4096 {
		return nil, fmt.Errorf("an RSA key of %d bits: want 1024 to 4096", bits)
	}
	return rsa.GenerateKey(rand.Reader, bits)
}

// GenerateEd25519 makes an Ed25519 key (RFC 8463).
func GenerateEd25519() (crypto.Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return key, err
}

// ParsePrivate reads an RSA or Ed25519 private key in PEM: PKCS #8, or PKCS #1
// for RSA. Its errors never hold key material.
func ParsePrivate(text []byte) (crypto.Signer, error) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, errors.New("no private key in PEM form found; want BEGIN PRIVATE KEY or BEGIN RSA PRIVATE KEY")
		}
		text = rest
		switch block.Type {
		case "RSA PRIVATE KEY":
			key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
			if err != nil {
				return nil, errors.New("the RSA private key is damaged")
			}
			return fit(key)
		case "PRIVATE KEY":
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, errors.New("the private key is damaged or of an unknown kind")
			}
			return fit(key)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("the private key is encrypted; decrypt it first, for example with openssl pkey")
		}
	}
}

func fit(key any) (crypto.Signer, error) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if n := k.N.BitLen(); n < 1024 || n > 4096 {
			return nil, fmt.Errorf("an RSA key of %d bits: want 1024 to 4096", n)
		}
		return k, nil
	case ed25519.PrivateKey:
		return k, nil
	}
	return nil, errors.New("DKIM knows RSA and Ed25519 keys only")
}

// MarshalPrivate gives a private key as PKCS #8 in PEM.
func MarshalPrivate(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("write private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// PublicRecord is the text of the TXT record that publishes a public key.
func PublicRecord(pub crypto.PublicKey) (string, error) {
	switch p := pub.(type) {
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(p)
		if err != nil {
			return "", fmt.Errorf("write public key: %w", err)
		}
		return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der), nil
	case ed25519.PublicKey:
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(p), nil
	}
	return "", fmt.Errorf("a %T cannot be published: want an RSA or Ed25519 key", pub)
}

// Record is a key record as found in DNS (RFC 6376, section 3.6.1).
type Record struct {
	KeyType string           // k=, "rsa" if absent
	Public  crypto.PublicKey // nil if revoked
	Revoked bool             // p= is empty
	Testing bool             // t=y
	Strict  bool             // t=s: i= must be of d= itself
}

// ParseRecord reads the text of a TXT record, its strings joined. The order of
// tags, blanks and unknown tags do not matter; two tags of one name do.
func ParseRecord(txt string) (Record, error) {
	tags, err := parseTags(txt)
	if err != nil {
		return Record{}, err
	}
	if v, ok := tags["v"]; ok && v != "DKIM1" {
		return Record{}, fmt.Errorf("not a DKIM key: v=%.20q", v)
	}
	p, ok := tags["p"]
	if !ok {
		return Record{}, errors.New("not a DKIM key: no p= tag")
	}
	r := Record{KeyType: "rsa"}
	if k, ok := tags["k"]; ok {
		r.KeyType = strings.ToLower(k)
	}
	flags := strings.Split(tags["t"], ":")
	for i := range flags {
		flags[i] = strings.Trim(flags[i], blanks)
	}
	r.Testing, r.Strict = slices.Contains(flags, "y"), slices.Contains(flags, "s")
	if err := usable(tags); err != nil {
		return Record{}, err
	}
	if p == "" {
		r.Revoked = true
		return r, nil
	}
	r.Public, err = parsePublic(r.KeyType, p)
	return r, err
}

const blanks = " \t\r\n"

// usable refuses keys for other hashes and services than ours.
func usable(tags map[string]string) error {
	listed := func(tag, want string) bool {
		v, ok := tags[tag]
		if !ok {
			return true
		}
		for x := range strings.SplitSeq(v, ":") {
			if x = strings.ToLower(strings.Trim(x, blanks)); x == want || x == "*" && tag == "s" {
				return true
			}
		}
		return false
	}
	if !listed("h", "sha256") {
		return errors.New("the DKIM key does not allow SHA-256 (h=)")
	}
	if !listed("s", "email") {
		return errors.New("the DKIM key is not for mail (s=)")
	}
	return nil
}

func parsePublic(kind, p string) (crypto.PublicKey, error) {
	der, err := base64.StdEncoding.DecodeString(strip(p))
	if err != nil {
		return nil, errors.New("the DKIM key's p= is not base64; it may have been cut or hold stray characters")
	}
	switch kind {
	case "rsa":
		if pub, err := x509.ParsePKIXPublicKey(der); err == nil {
			if k, ok := pub.(*rsa.PublicKey); ok {
				return k, nil
			}
			return nil, errors.New("the DKIM key says k=rsa but holds another kind of key")
		}
		if k, err := x509.ParsePKCS1PublicKey(der); err == nil { // RFC 6376 erratum 3017
			return k, nil
		}
		return nil, errors.New("the DKIM key's p= is not an RSA public key; it may have been cut")
	case "ed25519":
		if len(der) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("the DKIM key's p= has %d octets, want %d for Ed25519", len(der), ed25519.PublicKeySize)
		}
		return ed25519.PublicKey(der), nil
	}
	return nil, fmt.Errorf("the DKIM key is of an unknown kind: k=%.20q", kind)
}

// parseTags reads a tag list (section 3.2).
func parseTags(s string) (map[string]string, error) {
	tags := make(map[string]string, 4)
	for part := range strings.SplitSeq(s, ";") {
		part = strings.Trim(part, blanks)
		if part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		name = strings.Trim(name, blanks)
		if !ok || name == "" {
			return nil, fmt.Errorf("not a DKIM key: %.40q is not tag=value", part)
		}
		if _, twice := tags[name]; twice {
			return nil, fmt.Errorf("the DKIM key has two %s= tags", name)
		}
		tags[name] = strings.Trim(value, blanks)
	}
	return tags, nil
}

// strip removes the blanks that p= may hold.
func strip(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(blanks, r) {
			return -1
		}
		return r
	}, s)
}

// Matches reports whether the record publishes pub.
func (r Record) Matches(pub crypto.PublicKey) bool {
	switch p := r.Public.(type) {
	case *rsa.PublicKey:
		return p.Equal(pub)
	case ed25519.PublicKey:
		return p.Equal(pub)
	}
	return false
}
