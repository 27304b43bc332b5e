package relay

import (
	"strings"
	"testing"
)

// TestShared: only a key that says whose it is counts for one tenant, whatever
// that tenant is named.
func TestShared(t *testing.T) {
	for _, c := range []struct {
		name string // of tenant 7
		key  string
		want bool
	}{
		{"acme", "tenant 7", false},
		{"acme", "tenant acme", false},
		{"acme", "tenant 7 domain x.example", false},
		{"acme", "site x.example tenant 7", false},
		{"acme", "credential 7 acme/app", false},
		{"acme", "credential acme/app", false},
		{"acme", "tenant 8", true},
		{"acme", "credential acmeinc/app", true},
		{"acme", "credential platform/app", true},
		{"acme", "organisation acme", true},
		{"acme", "organisation 7", true},
		{"acme", "7", true},
		{"acme", "7 tenant", true},
		{"acme", "tenant", true},
		{"acme", "sender app@acme.example", true},
		{"organisation", "organisation umbrella", true},
		{"google", "family google", true},
		{"tenant", "tenant umbrella", true},
		{"credential", "credential platform/app", true},
	} {
		if got := shared(strings.Fields(c.key), 7, c.name); got != c.want {
			t.Errorf("tenant %s, key %s: shared is %t", c.name, c.key, got)
		}
	}
	if !shared(nil, 7, "acme") {
		t.Error("no key at all is not shared")
	}
}
