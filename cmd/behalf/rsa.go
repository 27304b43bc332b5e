package main

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"log/slog"

	"behalf/mail/sign/openssl"
)

// rsaSource is what makes RSA signatures: the host's OpenSSL in the build that
// looks for it, where there is one, else Go.
type rsaSource struct {
	lib *openssl.Library
	err error // why there is none
}

func hostRSA() rsaSource {
	lib, err := openssl.Open()
	return rsaSource{lib, err}
}

// String names the source for people.
func (r rsaSource) String() string {
	switch {
	case r.err == nil:
		return r.lib.Version()
	case errors.Is(r.err, openssl.ErrNotBuilt):
		return "Go"
	}
	return "Go (OpenSSL was not found: " + r.err.Error() + ")"
}

// signers is tenant.Options.RSA. It logs which signs; the build that is there
// for OpenSSL warns when Go does.
func (r rsaSource) signers(log *slog.Logger) func(*rsa.PrivateKey) crypto.Signer {
	if r.err != nil && !errors.Is(r.err, openssl.ErrNotBuilt) {
		log.Warn("OpenSSL was not found; Go signs with RSA, which takes two to five times as long", "err", r.err)
		return nil
	}
	log.Info("RSA signatures", "by", r.String())
	if r.err != nil {
		return nil
	}
	return func(k *rsa.PrivateKey) crypto.Signer {
		s, err := r.lib.Key(k)
		if err != nil {
			log.Warn("OpenSSL does not take an RSA key; Go signs with it", "err", err)
			return k
		}
		return s
	}
}
