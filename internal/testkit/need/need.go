// Package need says what becomes of a test that lacks something.
package need

import (
	"os"
	"testing"
)

// Missing skips the test for want of something, unless the environment says
// CI=true: there nothing may be missing.
func Missing(t testing.TB, what ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what...)
	}
	t.Skip(what...)
}
