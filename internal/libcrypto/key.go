package libcrypto

import (
	"crypto/sha256"
	"errors"
	"runtime"
)

// largest is the size of the longest signature, that of an RSA key of 4096 bits.
const largest = 512

// Key is an RSA key that the library holds. Several goroutines may sign with it
// at the same time; none while or after it is freed.
type Key struct {
	l   *Library
	evp uintptr
}

// Key reads an RSA key in PKCS #1 or PKCS #8. It keeps nothing of der.
func (l *Library) Key(der []byte) (*Key, error) {
	if len(der) == 0 {
		return nil, errors.New("read an RSA key: it is empty")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The library is given where a pointer to der stands, and moves that on.
	var pinned runtime.Pinner
	defer pinned.Unpin()
	first := &der[0]
	pinned.Pin(first)
	l.c.clearErrors()
	evp := l.c.privateKey(0, &first, len(der))
	if evp == 0 {
		return nil, l.failure("read an RSA key")
	}
	return &Key{l, evp}, nil
}

// Sign signs a digest of SHA-256 by PKCS #1 v1.5.
func (k *Key) Sign(digest *[sha256.Size]byte) ([]byte, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := &k.l.c
	c.clearErrors()
	ctx := c.newContext(k.evp, 0) // two goroutines must not share one
	defer c.freeContext(ctx)
	if ctx == 0 || c.signInit(ctx) != 1 || c.setPadding(ctx, paddingPKCS1) != 1 || c.setDigest(ctx, c.sha256()) != 1 {
		return nil, k.l.failure("prepare an RSA signature")
	}
	out := make([]byte, largest)
	size := uint(len(out))
	if c.sign(ctx, &out[0], &size, &digest[0], uint(len(digest))) != 1 || size > largest {
		return nil, k.l.failure("sign with RSA")
	}
	return out[:size], nil
}

// Free gives the key's memory back, cleared.
func (k *Key) Free() { k.l.c.freeKey(k.evp) }
