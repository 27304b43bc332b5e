package tenant

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
	"strings"
)

// Algorithms of DKIM keys.
const (
	AlgorithmRSA     = "rsa-2048"
	AlgorithmEd25519 = "ed25519"
)

// Sizes of RSA keys that may be imported, in bits. Longer ones do not fit a
// DNS answer that everybody can take.
const (
	minRSA = 2048
	maxRSA = 4096
)

// defaultKeys are made for a domain that names none (RFC 8463 asks for both).
func defaultKeys() []DKIMKey {
	return []DKIMKey{{Selector: "b1", Algorithm: AlgorithmRSA}, {Selector: "b2", Algorithm: AlgorithmEd25519}}
}

// makeKey makes a private key and gives it in PKCS #8, with its public part.
func makeKey(algorithm string) (der []byte, public string, err error) {
	if algorithm == AlgorithmEd25519 {
		_, priv, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, "", err
		}
		return packKey(priv)
	}
	priv, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, "", err
	}
	return packKey(priv)
}

// importKey reads a private key: PEM (PKCS #8 or PKCS #1), or for Ed25519 the
// base64 of its 32-octet seed, as dkimpy writes it.
func importKey(algorithm, text string) (der []byte, public string, err error) {
	text = strings.TrimSpace(text)
	if seed, err := base64.StdEncoding.DecodeString(text); err == nil && len(seed) == ed25519.SeedSize && algorithm == AlgorithmEd25519 {
		return packKey(ed25519.NewKeyFromSeed(seed))
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(strings.TrimSpace(string(rest))) != 0 {
		return nil, "", errors.New("is not one private key in PEM")
	}
	var key any
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, "", fmt.Errorf("is a %s; want PRIVATE KEY or RSA PRIVATE KEY, not encrypted", block.Type)
	}
	if err != nil {
		return nil, "", errors.New("is damaged: the PEM block holds no key")
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if n := key.N.BitLen(); algorithm != AlgorithmRSA {
			return nil, "", fmt.Errorf("is an RSA key; the algorithm says %s", algorithm)
		} else if n < minRSA || n > maxRSA {
			return nil, "", fmt.Errorf("has %d bits; want %d to %d", n, minRSA, maxRSA)
		}
		return packKey(key)
	case ed25519.PrivateKey:
		if algorithm != AlgorithmEd25519 {
			return nil, "", fmt.Errorf("is an Ed25519 key; the algorithm says %s", algorithm)
		}
		return packKey(key)
	}
	return nil, "", errors.New("is neither an RSA nor an Ed25519 key")
}

func packKey(key crypto.Signer) (der []byte, public string, err error) {
	if der, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return nil, "", err
	}
	public, err = publicText(key)
	return der, public, err
}

// publicText is the p= value: for RSA the SubjectPublicKeyInfo, for Ed25519 the
// bare key (RFC 6376, section 3.6.1; RFC 8463, section 4).
func publicText(key crypto.Signer) (string, error) {
	if pub, ok := key.Public().(ed25519.PublicKey); ok {
		return base64.StdEncoding.EncodeToString(pub), nil
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	return base64.StdEncoding.EncodeToString(der), err
}

// Record is the text of the TXT record that shows the key.
func (k DKIMKey) Record() string {
	kind := "rsa"
	if k.Algorithm == AlgorithmEd25519 {
		kind = "ed25519"
	}
	return "v=DKIM1; k=" + kind + "; p=" + k.Public
}

func unpackKey(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("key cannot sign")
	}
	return s, nil
}
