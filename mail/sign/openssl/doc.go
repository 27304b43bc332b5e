// Package openssl makes RSA signatures with the host's OpenSSL, which takes a
// fifth to a half of the time that crypto/rsa does. It is there in binaries built
// with the tag openssl (make build-openssl); in others [Open] says that it is not.
//
// libcrypto is looked for when the program starts, not when it is linked: a
// binary with the tag runs without it too, with crypto/rsa. A key never leaves
// the process. It is handed over once, proved by a signature that crypto/rsa
// verifies, and cleared and freed when nothing refers to it any more.
// Signatures are the same octets that crypto/rsa makes (PKCS #1 v1.5, SHA-256).
// What is secret is worked on in constant time and blinded, and each result is
// checked against faults before it is given out: OpenSSL does both by default,
// and nothing here turns it off.
package openssl

import "errors"

// ErrNotBuilt says that the program was built without the tag openssl.
var ErrNotBuilt = errors.New("built without OpenSSL")
