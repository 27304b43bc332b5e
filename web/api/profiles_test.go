package api_test

import (
	"bytes"
	"testing"
)

// Profiles are for administrators, and end in time.
func TestProfiles(t *testing.T) {
	w := newWorld(t)
	w.customer("acme")
	for _, c := range []struct {
		key, path string
		status    int
	}{
		{adminKey, "/debug/pprof/heap", 200},
		{adminKey, "/debug/pprof/profile?seconds=1", 200},
		{adminKey, "/debug/pprof/profile?seconds=121", 400},
		{adminKey, "/debug/pprof/trace?seconds=-1", 400},
		{adminKey, "/debug/pprof/goroutine?seconds=x", 400},
		{adminKey, "/debug/pprof/cmdline", 404},
		{"acme-secret", "/debug/pprof/heap", 404},
		{"", "/debug/pprof/heap", 401},
	} {
		a := w.do(request{key: c.key, path: c.path})
		if a.status != c.status {
			t.Errorf("%s: %s", c.path, a)
		}
		if gzip := bytes.HasPrefix(a.body, []byte{0x1f, 0x8b}); gzip != (c.status == 200) {
			t.Errorf("%s: %d octets, a profile: %v", c.path, len(a.body), gzip)
		}
	}
}
