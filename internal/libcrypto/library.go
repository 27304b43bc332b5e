// Package libcrypto makes RSA signatures with the OpenSSL 3 of the host, which is
// looked for when the program runs. It needs no C compiler, but a program that
// imports it is linked dynamically: only cmd/behalf-rsa does.
//
// What is secret is worked on in constant time and blinded, and each result is
// checked against faults before it is given out: OpenSSL does all of this by
// default, and nothing here turns it off.
package libcrypto

import (
	"bytes"
	"fmt"

	"github.com/ebitengine/purego"
)

// Soname is that of OpenSSL 3, whose functions are in any 3.x as declared here.
const Soname = "libcrypto.so.3"

// Library is an open libcrypto. It stays open as long as the program runs.
type Library struct{ c functions }

// functions are those of libcrypto that are used. An EVP_PKEY and its kin are
// numbers here, which the collector does not follow. What a pointer leads to is
// on the heap, and purego refers to it until the call returns.
type functions struct {
	versionNumber func() uint
	version       func(what int32) string

	privateKey func(old uintptr, der **byte, size int) (key uintptr)
	freeKey    func(key uintptr)
	sha256     func() (md uintptr)

	newContext  func(key, engine uintptr) (ctx uintptr)
	freeContext func(ctx uintptr)
	signInit    func(ctx uintptr) int32
	setPadding  func(ctx uintptr, padding int32) int32
	setDigest   func(ctx, md uintptr) int32
	sign        func(ctx uintptr, sig *byte, size *uint, digest *byte, digestSize uint) int32

	clearErrors func()
	nextError   func() uint
	errorText   func(code uint, text *byte, size uint)
}

// The numbers of OpenSSL's headers.
const (
	version3     = 0x30000000
	versionText  = 0 // OPENSSL_VERSION
	paddingPKCS1 = 1 // RSA_PKCS1_PADDING
)

// Open finds a libcrypto by its file name; it must be of OpenSSL 3.
func Open(file string) (*Library, error) {
	lib, err := purego.Dlopen(file, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, err
	}
	l := &Library{}
	for name, f := range map[string]any{
		"OpenSSL_version_num": &l.c.versionNumber, "OpenSSL_version": &l.c.version,
		"d2i_AutoPrivateKey": &l.c.privateKey, "EVP_PKEY_free": &l.c.freeKey, "EVP_sha256": &l.c.sha256,
		"EVP_PKEY_CTX_new": &l.c.newContext, "EVP_PKEY_CTX_free": &l.c.freeContext,
		"EVP_PKEY_sign_init": &l.c.signInit, "EVP_PKEY_CTX_set_rsa_padding": &l.c.setPadding,
		"EVP_PKEY_CTX_set_signature_md": &l.c.setDigest, "EVP_PKEY_sign": &l.c.sign,
		"ERR_clear_error": &l.c.clearErrors, "ERR_get_error": &l.c.nextError, "ERR_error_string_n": &l.c.errorText,
	} {
		at, err := purego.Dlsym(lib, name)
		if err != nil {
			return nil, fmt.Errorf("%s has no %s", file, name)
		}
		purego.RegisterFunc(f, at)
	}
	if l.c.versionNumber() < version3 {
		return nil, fmt.Errorf("%s is %s: want OpenSSL 3", file, l.Version())
	}
	return l, nil
}

// Version is how the library names itself.
func (l *Library) Version() string { return l.c.version(versionText) }

// failure tells why a call just failed. The library's errors are those of the
// thread, so that the caller has it locked.
func (l *Library) failure(what string) error {
	text := make([]byte, 256)
	l.c.errorText(l.c.nextError(), &text[0], uint(len(text)))
	text, _, _ = bytes.Cut(text, []byte{0})
	return fmt.Errorf("%s: %s", what, text)
}
