// Package sign makes DKIM signatures (RFC 6376, RFC 8463) from a header and a
// body hash that was computed while the body came in, and reads and writes keys
// and their DNS records.
//
// Signing is relaxed/relaxed in one pass over the header, whose canonical form
// all keys share. The length of the signature fields is known before anything is
// signed, so that a SIZE can be announced first. The fields that a forger would
// like to add are signed once more than they occur, which makes adding one break
// the signature (section 5.4.2); trace fields are never signed.
package sign

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"
)

// Key signs for a domain under a selector.
type Key struct {
	Domain, Selector string
	Signer           crypto.Signer // RSA or Ed25519
}

// kind is what a key is.
type kind struct {
	public    crypto.PublicKey
	algorithm string // a=; "" if DKIM does not know it
	size      int    // of a signature, in octets
}

func (k Key) kind() kind {
	if k.Signer == nil {
		return kind{}
	}
	switch pub := k.Signer.Public().(type) {
	case *rsa.PublicKey:
		return kind{pub, "rsa-sha256", pub.Size()}
	case ed25519.PublicKey:
		return kind{pub, "ed25519-sha256", ed25519.SignatureSize}
	}
	return kind{}
}

// Algorithm is the a= tag, or "" if the key is of no kind that DKIM knows.
func (k Key) Algorithm() string { return k.kind().algorithm }

// String names the key as traces show it.
func (k Key) String() string { return "d=" + k.Domain + " s=" + k.Selector + " a=" + k.Algorithm() }

// Options say how to sign.
type Options struct {
	Keys    []Key
	Time    time.Time // t=
	Expires time.Time // x=; zero: none
	Exclude []string  // fields that the next hop rewrites: not signed
	Cache   *Cache    // of signatures made lately; nil: none is used again
}

// Draft is a set of signatures that lacks only the signing. It is for one
// goroutine at a time. That of no signatures may be nil.
type Draft struct {
	common     []byte // canonical form of the signed fields, with room for a field
	signatures []signature
	size       int
	computed   int
}

// signature is one of a draft.
type signature struct {
	key  Key
	is   kind
	head []byte // the field up to and with "b="
	made *made
}

// Sign gives the DKIM-Signature fields of a message in the order of the keys,
// with their line ends. header is what will stand below them; bodyHash is that
// of the relaxed canonical body.
func Sign(header []byte, bodyHash [32]byte, o Options) ([]byte, error) {
	d, err := NewDraft(header, bodyHash, o)
	if err != nil {
		return nil, err
	}
	return d.Sign()
}

// NewDraft does all but the signing. The error names a key that cannot be used.
func NewDraft(header []byte, bodyHash [32]byte, o Options) (*Draft, error) {
	d := &Draft{}
	if len(o.Keys) == 0 {
		return d, nil
	}
	var room [48]string
	names, common := canonicalHeader(room[:0], make([]byte, 0, len(header)+1024), header, o.Exclude)
	d.common, d.signatures = common, make([]signature, len(o.Keys))
	sum := sha256.Sum256(common)
	for i, k := range o.Keys {
		is := k.kind()
		if err := check(k, is); err != nil {
			return nil, err
		}
		m := o.Cache.find(identity(sum, bodyHash, k, &o), is.public, o.Time)
		d.signatures[i] = signature{k, is, head(k, is, names, bodyHash, m.at, &o), m}
		d.size += len(d.signatures[i].head) + signatureField(is.size)
	}
	return d, nil
}

func check(k Key, is kind) error {
	switch {
	case k.Domain == "" || k.Selector == "" || strings.ContainsAny(k.Domain+k.Selector, " \t\r\n;="):
		return fmt.Errorf("DKIM key %s: bad domain or selector", k)
	case is.algorithm == "":
		return fmt.Errorf("DKIM key %s: want an RSA or Ed25519 key", k)
	case is.algorithm == "rsa-sha256" && is.size < 128:
		return fmt.Errorf("DKIM key %s: RSA keys under 1024 bits are refused everywhere", k)
	}
	return nil
}

// Size is the exact length of what Sign will give.
func (d *Draft) Size() int {
	if d == nil {
		return 0
	}
	return d.size
}

// Computed is how many signatures Sign has computed; the others were made for
// somebody else before (Options.Cache).
func (d *Draft) Computed() int {
	if d == nil {
		return 0
	}
	return d.computed
}

// Sign signs with every key.
func (d *Draft) Sign() ([]byte, error) {
	out := make([]byte, 0, d.size)
	for i := range d.signatures {
		s := &d.signatures[i]
		sig, computed, err := s.made.once(func() ([]byte, error) { return d.sign(s) })
		if err != nil {
			return nil, fmt.Errorf("sign with %s: %w", s.key, err)
		}
		if computed {
			d.computed++
		}
		out = appendSignature(append(out, s.head...), sig)
	}
	return out, nil
}

// sign computes one signature.
func (d *Draft) sign(s *signature) ([]byte, error) {
	text := appendRelaxed(d.common, s.head)
	sum := sha256.Sum256(text[:len(text)-len("\r\n")])
	hash := crypto.SHA256
	if s.is.algorithm != "rsa-sha256" {
		hash = crypto.Hash(0) // RFC 8463 signs the hash itself with plain Ed25519
	}
	sig, err := s.key.Signer.Sign(rand.Reader, sum[:], hash)
	if err == nil && len(sig) != s.is.size {
		err = fmt.Errorf("a signature of %d octets, want %d", len(sig), s.is.size)
	}
	if err != nil {
		return nil, err
	}
	return sig, nil
}
