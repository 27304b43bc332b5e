//go:build !openssl || !cgo

package openssl

import (
	"errors"
	"testing"
)

// TestNotBuilt: the default build says that it has no OpenSSL.
func TestNotBuilt(t *testing.T) {
	if _, err := Open(); !errors.Is(err, ErrNotBuilt) {
		t.Error(err)
	}
}
