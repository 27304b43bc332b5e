package aside

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// Key gives a signer that does what k does, by the helper when it can. A key
// of a size that DKIM does not know, or of more than two primes, stays k.
func (h *Helper) Key(k *rsa.PrivateKey) crypto.Signer {
	if n := k.N.BitLen(); n < 1024 || n > 4096 || len(k.Primes) != 2 {
		return k
	}
	return &key{private: k, helper: h, number: h.numbers.Add(1)}
}

// key is an RSA key whose signatures the helper makes.
type key struct {
	private *rsa.PrivateKey
	helper  *Helper
	number  uint64
	barred  atomic.Bool   // the helper does not take it
	proved  atomic.Uint64 // the child that has made a good signature with it

	mu     sync.Mutex
	handed uint64 // the child that was handed the key last
}

// Public implements crypto.Signer.
func (k *key) Public() crypto.PublicKey { return &k.private.PublicKey }

// Sign implements crypto.Signer. What is not a PKCS #1 v1.5 signature of a
// SHA-256, crypto/rsa makes, and all that the helper does not.
func (k *key) Sign(random io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if _, pss := o.(*rsa.PSSOptions); !pss && o.HashFunc() == crypto.SHA256 && len(digest) == sha256.Size && !k.barred.Load() {
		if sig := k.helper.sign(k, digest); sig != nil {
			return sig, nil
		}
	}
	return k.private.Sign(random, digest, o)
}

// sign gives nil if Go must sign.
func (h *Helper) sign(k *key, digest []byte) []byte {
	c := h.child.Load()
	if c == nil {
		return nil
	}
	sig, err := c.sign(k, digest)
	var refused refusal
	switch {
	case errors.As(err, &refused):
		if !k.barred.Swap(true) {
			h.log.Warn("the helper does not take an RSA key; Go signs with it", "err", err)
		}
		return nil
	case err != nil:
		return nil
	case !k.good(c.generation, digest, sig):
		h.doubt(c, k, digest)
		return nil
	}
	return sig
}

// good reports whether a signature may be used. The first that a child makes
// with a key is verified.
func (k *key) good(child uint64, digest, sig []byte) bool {
	if len(sig) != k.private.Size() {
		return false
	}
	if k.proved.Load() == child {
		return true
	}
	if rsa.VerifyPKCS1v15(&k.private.PublicKey, crypto.SHA256, digest, sig) != nil {
		return false
	}
	k.proved.Store(child)
	return true
}

// doubt ends the use of the helper for good after a false signature, unless
// crypto/rsa does not sign with the key either.
func (h *Helper) doubt(c *child, k *key, digest []byte) {
	if _, err := rsa.SignPKCS1v15(nil, k.private, crypto.SHA256, digest); err != nil {
		k.barred.Store(true)
		return
	}
	c.fail(errFalse)
}

// request writes the frames that ask a child for a signature. Before the first,
// and when the child has forgotten the key, they hand the key over.
func (k *key) request(c *child, number uint64, digest []byte, again bool) {
	k.mu.Lock() // until both are written: nobody's request comes before the key
	defer k.mu.Unlock()
	if again || k.handed != c.generation {
		der := x509.MarshalPKCS1PrivateKey(k.private)
		c.out.add(kindKey, k.number, der)
		clear(der)
		k.handed = c.generation
	}
	c.out.add(kindSign, number, binary.BigEndian.AppendUint64(nil, k.number), digest)
}
