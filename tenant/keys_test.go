package tenant

import (
	"bytes"
	"strings"
	"testing"
)

// The keys are on disks: changing one loses what was stored under it.
func TestKeysAreGolden(t *testing.T) {
	mac := bytes.Repeat([]byte{0xaa}, macSize)
	for _, tt := range []struct{ got, want string }{
		{string(resourceKey(0x01020304, KindTenant, "")), "t/\x01\x02\x03\x04/tenant/"},
		{string(resourceKey(0x01020304, KindIdentity, "a@b.example")), "t/\x01\x02\x03\x04/identity/a@b.example"},
		{string(resourceKey(0, kindUsed, "app")), "t/\x00\x00\x00\x00/used/app"},
		{string(deletingKey(0x2f2f2f2f)), "t/\x00\x00\x00\x00/deleting/////"},
		{string(nameKey("acme")), "u/tenant/acme"},
		{string(numberKey(1)), "u/id/\x00\x00\x00\x01"},
		{string(domainKey("acme.example")), "u/domain/acme.example"},
		{string(secretKey(mac, 0x2f000001, "app")), "u/key/" + string(mac) + "/\x2f\x00\x00\x01/app"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q; want %q", tt.got, tt.want)
		}
	}
	if id, name, ok := secretOwner(secretKey(mac, 0x2f000001, "app")); !ok || id != 0x2f000001 || name != "app" {
		t.Errorf("secretOwner: %x, %q, %v", id, name, ok)
	}
	if k, name, ok := parseResourceKey(resourceKey(0x2f2f2f2f, KindDomain, "a/b")); !ok || k != KindDomain || name != "a/b" {
		t.Errorf("parseResourceKey: %q, %q, %v", k, name, ok)
	}
	for _, short := range []string{"", "t/", "t/\x00\x00\x00\x00/", strings.Repeat("x", 7), "u/key/"} {
		if _, _, ok := parseResourceKey([]byte(short)); ok {
			t.Errorf("parseResourceKey(%q) is ok", short)
		}
		if _, _, ok := secretOwner([]byte(short)); ok {
			t.Errorf("secretOwner(%q) is ok", short)
		}
	}
}
