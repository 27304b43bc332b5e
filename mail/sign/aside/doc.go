// Package aside lets a program beside this one make RSA signatures: behalf-rsa,
// which does it with the host's OpenSSL in a quarter to a half of the CPU that
// crypto/rsa takes. This program stays static and complete without it: whatever
// goes wrong with the helper, crypto/rsa signs.
//
// [Helper] is this program's side, [Serve] the other. They speak in frames over
// the helper's standard input and output (frame.go): the helper says hello, is
// handed each key once, and answers digests with signatures. It keeps a bounded
// number of keys and forgets the one that was not used for longest, which it is
// then handed again. Signatures are the same octets whoever makes them.
package aside
