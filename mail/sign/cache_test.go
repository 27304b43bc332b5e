package sign

import (
	"bytes"
	"crypto"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// counting counts what a key signs, and fails at first as often as it is told.
type counting struct {
	crypto.Signer
	n, fails atomic.Int64
}

func (c *counting) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	c.n.Add(1)
	if c.fails.Add(-1) >= 0 {
		return nil, errors.New("not now")
	}
	return c.Signer.Sign(r, digest, o)
}

// world is two counted keys and a cache.
func world(t *testing.T) (rsaKey, edKey *counting, o Options) {
	t.Helper()
	cache := NewCache(8)
	keys := testKeys()
	rsaKey, edKey = &counting{Signer: keys[0].Signer}, &counting{Signer: keys[1].Signer}
	return rsaKey, edKey, Options{Time: at, Cache: cache,
		Keys: []Key{{"acme.example", "b1", rsaKey}, {"acme.example", "b2", edKey}}}
}

// TestSignedOnce: a message that goes to many places at the same time is signed
// once with each key, and every one of them gets the same signatures.
func TestSignedOnce(t *testing.T) {
	rsaKey, edKey, o := world(t)
	var all [20][]byte
	var wg sync.WaitGroup
	var computed atomic.Int64
	for i := range all {
		wg.Go(func() {
			o := o
			o.Time = at.Add(time.Duration(i) * time.Second) // each attempt has a time of its own
			d, err := NewDraft([]byte(testHeader), [32]byte{1}, o)
			if err == nil {
				all[i], err = d.Sign()
				computed.Add(int64(d.Computed()))
			}
			if err != nil || len(all[i]) != d.Size() {
				t.Errorf("attempt %d: %d octets, Size said %d, %v", i, len(all[i]), d.Size(), err)
			}
		})
	}
	wg.Wait()
	for i := range all {
		if !bytes.Equal(all[i], all[0]) {
			t.Errorf("attempt %d has other signatures:\n%s\n%s", i, all[i], all[0])
		}
	}
	if r, e := rsaKey.n.Load(), edKey.n.Load(); r != 1 || e != 1 || computed.Load() != 2 {
		t.Errorf("%d and %d signatures; %d are said", r, e, computed.Load())
	}
}

func TestWhatIsSignedAnew(t *testing.T) {
	for name, change := range map[string]func(header *string, hash *[32]byte, o *Options){
		"header":         func(h *string, _ *[32]byte, _ *Options) { *h = "Subject: other\r\n" + *h },
		"body":           func(_ *string, hash *[32]byte, _ *Options) { hash[0]++ },
		"exclusion":      func(_ *string, _ *[32]byte, o *Options) { o.Exclude = []string{"Cc"} },
		"expiry":         func(_ *string, _ *[32]byte, o *Options) { o.Expires = at.Add(48 * time.Hour) },
		"domain":         func(_ *string, _ *[32]byte, o *Options) { o.Keys[0].Domain = "other.example" },
		"selector":       func(_ *string, _ *[32]byte, o *Options) { o.Keys[0].Selector = "other" },
		"time":           func(_ *string, _ *[32]byte, o *Options) { o.Time = at.Add(sameFor) },
		"clock set back": func(_ *string, _ *[32]byte, o *Options) { o.Time = at.Add(-order) },
		"key":            func(_ *string, _ *[32]byte, o *Options) { o.Keys[0].Signer = testKeys()[1].Signer },
		"nothing":        func(*string, *[32]byte, *Options) {},
		"trace field":    func(h *string, _ *[32]byte, _ *Options) { *h = "Received: by z\r\n" + *h },
		"later":          func(_ *string, _ *[32]byte, o *Options) { o.Time = at.Add(sameFor - 1) },
	} {
		_, _, o := world(t)
		o.Keys = o.Keys[:1]
		header, hash := testHeader, [32]byte{1}
		first, err := Sign([]byte(header), hash, o)
		if err != nil {
			t.Fatal(err)
		}
		change(&header, &hash, &o)
		d, err := NewDraft([]byte(header), hash, o)
		if err != nil {
			t.Fatal(err)
		}
		second, err := d.Sign()
		if err != nil {
			t.Fatal(err)
		}
		same := name == "nothing" || name == "trace field" || name == "later"
		if (d.Computed() == 0) != same || bytes.Equal(first, second) != same {
			t.Errorf("%s: computed %d signatures", name, d.Computed())
		}
	}
}

// TestFailureIsNotKept: a key that could not sign is asked again.
func TestFailureIsNotKept(t *testing.T) {
	rsaKey, _, o := world(t)
	rsaKey.fails.Store(1)
	d, err := NewDraft([]byte(testHeader), [32]byte{}, o)
	if err != nil {
		t.Fatal(err)
	}
	if sig, err := d.Sign(); err == nil {
		t.Errorf("signed: %s", sig)
	}
	if sig, err := d.Sign(); err != nil || len(sig) != d.Size() || d.Computed() != 2 {
		t.Errorf("%d octets, %d computed, %v", len(sig), d.Computed(), err)
	}
}

// TestCacheIsBounded: what has not been used for long makes room.
func TestCacheIsBounded(t *testing.T) {
	_, edKey, o := world(t)
	o.Keys = o.Keys[1:]
	for i := range byte(100) {
		if _, err := Sign([]byte(testHeader), [32]byte{i}, o); err != nil {
			t.Fatal(err)
		}
	}
	if n := o.Cache.lru.Len(); n != 8 {
		t.Errorf("%d signatures are kept", n)
	}
	if _, err := Sign([]byte(testHeader), [32]byte{0}, o); err != nil || edKey.n.Load() != 101 {
		t.Errorf("signed %d times, %v", edKey.n.Load(), err)
	}
}
