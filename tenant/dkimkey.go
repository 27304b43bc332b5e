package tenant

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"behalf/mail/sign"
)

// Algorithms of DKIM keys.
const (
	AlgorithmRSA     = "rsa-2048"
	AlgorithmEd25519 = "ed25519"
)

// minRSA is the size of RSA keys that are made, and the least that is imported,
// in bits.
const minRSA = 2048

// defaultKeys are made for a domain that names none (RFC 8463 asks for both).
func defaultKeys() []DKIMKey {
	return []DKIMKey{{Selector: "b1", Algorithm: AlgorithmRSA}, {Selector: "b2", Algorithm: AlgorithmEd25519}}
}

// makeKey makes a private key and gives it in PKCS #8, with its public part.
func makeKey(algorithm string) (der []byte, public string, err error) {
	var key crypto.Signer
	if algorithm == AlgorithmEd25519 {
		key, err = sign.GenerateEd25519()
	} else {
		key, err = sign.GenerateRSA(minRSA)
	}
	if err != nil {
		return nil, "", err
	}
	return packKey(key)
}

// importKey reads a private key: PEM (PKCS #8 or PKCS #1), or for Ed25519 the
// base64 of its 32-octet seed, as dkimpy writes it.
func importKey(algorithm, text string) (der []byte, public string, err error) {
	text = strings.TrimSpace(text)
	if seed, err := base64.StdEncoding.DecodeString(text); err == nil && len(seed) == ed25519.SeedSize && algorithm == AlgorithmEd25519 {
		return packKey(ed25519.NewKeyFromSeed(seed))
	}
	key, err := sign.ParsePrivate([]byte(text))
	if err != nil {
		return nil, "", fmt.Errorf("cannot be read: %w", err)
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if algorithm != AlgorithmRSA {
			return nil, "", fmt.Errorf("is an RSA key; the algorithm says %s", algorithm)
		}
		if n := k.N.BitLen(); n < minRSA {
			return nil, "", fmt.Errorf("has %d bits; want %d at least", n, minRSA)
		}
	default:
		if algorithm != AlgorithmEd25519 {
			return nil, "", fmt.Errorf("is an Ed25519 key; the algorithm says %s", algorithm)
		}
	}
	return packKey(key)
}

// packKey gives a key in PKCS #8, and its p= value: for RSA the
// SubjectPublicKeyInfo, for Ed25519 the bare key (RFC 6376, section 3.6.1;
// RFC 8463, section 4).
func packKey(key crypto.Signer) (der []byte, public string, err error) {
	if der, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return nil, "", err
	}
	record, err := sign.PublicRecord(key.Public())
	if err != nil {
		return nil, "", err
	}
	_, public, _ = strings.Cut(record, "p=")
	return der, public, nil
}

// Record is the text of the TXT record that shows the key.
func (k *DKIMKey) Record() string { return "v=DKIM1; k=" + k.family() + "; p=" + k.Public }

// RecordSize is the length of Record, without making it.
func (k *DKIMKey) RecordSize() int { return len("v=DKIM1; k=; p=") + len(k.family()) + len(k.Public) }

func (k *DKIMKey) family() string {
	if k.Algorithm == AlgorithmEd25519 {
		return "ed25519"
	}
	return "rsa"
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
