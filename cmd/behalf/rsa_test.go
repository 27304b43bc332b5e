package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"behalf/mail/sign/openssl"
)

// TestRSASource: the log says at start what signs, and warns only where OpenSSL
// was asked for and is not there.
func TestRSASource(t *testing.T) {
	for name, c := range map[string]struct {
		source      rsaSource
		named, logs string
	}{
		"default build": {rsaSource{err: openssl.ErrNotBuilt}, "Go", `level=INFO msg="RSA signatures" by=Go`},
		"missing":       {rsaSource{err: errors.New("no libcrypto")}, "Go (OpenSSL was not found: no libcrypto)", "level=WARN"},
	} {
		var out bytes.Buffer
		if c.source.signers(slog.New(slog.NewTextHandler(&out, nil))) != nil {
			t.Errorf("%s: another signer than Go", name)
		}
		if c.source.String() != c.named || !strings.Contains(out.String(), c.logs) || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%s: %q, log %s", name, c.source, out.String())
		}
	}
}
