//go:build !openssl || !cgo

package openssl

import (
	"crypto"
	"crypto/rsa"
)

// Library is the host's libcrypto; there is none in this build.
type Library struct{}

// Open gives ErrNotBuilt.
func Open() (*Library, error) { return nil, ErrNotBuilt }

// Version is empty.
func (*Library) Version() string { return "" }

// Key gives ErrNotBuilt.
func (*Library) Key(*rsa.PrivateKey) (crypto.Signer, error) { return nil, ErrNotBuilt }
