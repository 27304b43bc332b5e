package files

import (
	"testing"
	"time"

	"behalf/internal/blob"
	"behalf/internal/blob/blobtest"
)

// hasty are options under which Reclaim has much to do.
var hasty = Options{SegmentSize: 64 << 10, SafeAge: 2 * time.Second, Grace: time.Millisecond}

func open(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	for name, o := range map[string]Options{"as in production": {}, "hasty": hasty} {
		t.Run(name, func(t *testing.T) {
			blobtest.Run(t, o.SafeAge, func(t *testing.T) blob.Store { return open(t, t.TempDir(), o) })
		})
	}
}
