package aside

import (
	"bytes"
	"testing"
)

// TestKeysAreCleared: what the outbox leaves when it grows holds no keys.
func TestKeysAreCleared(t *testing.T) {
	var o outbox
	secret := bytes.Repeat([]byte("key"), 300)
	o.add(kindKey, 1, secret)
	for range 5 {
		old := o.waiting
		for cap(o.waiting) == cap(old) {
			old = o.waiting
			o.add(kindKey, 2, secret)
		}
		if bytes.Contains(old[:cap(old)], []byte("key")) {
			t.Fatal("a key is left behind")
		}
	}
	if n := bytes.Count(o.waiting, secret); n < 6 {
		t.Errorf("%d keys wait", n)
	}
}
