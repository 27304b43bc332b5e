//go:build openssl && cgo

package openssl

/*
#cgo LDFLAGS: -ldl
#include "libcrypto.h"
*/
import "C"

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"runtime"
)

// soname is that of OpenSSL 3, whose functions the headers of any 3.x describe.
const soname = "libcrypto.so.3"

// Library is the host's libcrypto. It stays open as long as the program runs.
type Library struct {
	lib *C.struct_libcrypto
	// turns bounds how many signatures are computed at once. Each has a thread of
	// its own meanwhile, and more than the cores would only take the CPU from others.
	turns chan struct{}
}

// Open finds libcrypto of OpenSSL 3.
func Open() (*Library, error) { return open(soname) }

func open(file string) (*Library, error) {
	name := append([]byte(file), 0)
	o := C.libcrypto_open((*C.uint8_t)(&name[0]))
	if o.lib == nil {
		return nil, errors.New(C.GoString(&o.why[0]))
	}
	return &Library{lib: o.lib, turns: make(chan struct{}, runtime.GOMAXPROCS(0))}, nil
}

// Version is how the library names itself.
func (l *Library) Version() string { return C.GoString(C.libcrypto_version(l.lib)) }

// key is an RSA key that the library holds.
type key struct {
	l   *Library
	evp *C.EVP_PKEY
	pub *rsa.PublicKey
}

// Key gives a signer that does what k does. Keys of other than 2048 to 4096 bits
// and of more than two primes are refused.
func (l *Library) Key(k *rsa.PrivateKey) (crypto.Signer, error) {
	if n := k.N.BitLen(); n < 2048 || n > 4096 || len(k.Primes) != 2 {
		return nil, fmt.Errorf("an RSA key of %d bits and %d primes: want 2048 to 4096 and 2", n, len(k.Primes))
	}
	s, err := l.load(k)
	if err != nil {
		return nil, err
	}
	if err := s.prove(); err != nil {
		return nil, err
	}
	return s, nil
}

// load hands a key over.
func (l *Library) load(k *rsa.PrivateKey) (*key, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, fmt.Errorf("hand an RSA key to OpenSSL: %w", err)
	}
	defer clear(der)
	evp := C.libcrypto_key(l.lib, (*C.uint8_t)(&der[0]), C.long(len(der)))
	if evp == nil {
		return nil, errors.New("OpenSSL does not read the RSA key")
	}
	s := &key{l: l, evp: evp, pub: &k.PublicKey}
	runtime.AddCleanup(s, func(evp *C.EVP_PKEY) { C.libcrypto_free(l.lib, evp) }, evp)
	return s, nil
}

// prove makes a signature and verifies it.
func (k *key) prove() error {
	sum := sha256.Sum256([]byte("proof"))
	sig, err := k.Sign(nil, sum[:], crypto.SHA256)
	if err != nil {
		return err
	}
	if err := rsa.VerifyPKCS1v15(k.pub, crypto.SHA256, sum[:], sig); err != nil {
		return fmt.Errorf("OpenSSL made a false RSA signature: %w", err)
	}
	return nil
}

// Public implements crypto.Signer.
func (k *key) Public() crypto.PublicKey { return k.pub }

// Sign implements crypto.Signer for PKCS #1 v1.5 with SHA-256. It takes nothing
// from the reader: OpenSSL blinds with random octets of its own.
func (k *key) Sign(_ io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if _, pss := o.(*rsa.PSSOptions); pss || o.HashFunc() != crypto.SHA256 || len(digest) != sha256.Size {
		return nil, errors.New("OpenSSL is asked only for PKCS #1 v1.5 signatures of SHA-256")
	}
	out := make([]byte, k.pub.Size())
	k.l.turns <- struct{}{}
	s := C.libcrypto_sign(k.l.lib, k.evp, (*C.uint8_t)(&digest[0]), C.size_t(len(digest)), (*C.uint8_t)(&out[0]), C.size_t(len(out)))
	<-k.l.turns
	runtime.KeepAlive(k)
	if int(s.size) != len(out) {
		return nil, fmt.Errorf("OpenSSL signs %d octets, want %d: %s", s.size, len(out), C.GoString(&s.why[0]))
	}
	return out, nil
}
