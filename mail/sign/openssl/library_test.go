//go:build openssl && cgo

package openssl

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func opened(t testing.TB) *Library {
	t.Helper()
	l, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func keyOf(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// digest is the n-th of a row.
func digest(n int) []byte {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
	return sum[:]
}

// TestSameOctets: whoever has the two builds at the same keys sends the same
// messages.
func TestSameOctets(t *testing.T) {
	l := opened(t)
	for _, bits := range []int{2048, 2048, 3072, 4096} {
		k := keyOf(t, bits)
		s, err := l.Key(k)
		if err != nil {
			t.Fatal(err)
		}
		if !k.PublicKey.Equal(s.Public()) {
			t.Errorf("%d bits: another public key", bits)
		}
		for n := range 20 {
			want, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, digest(n))
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.Sign(rand.Reader, digest(n), crypto.SHA256)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bits, digest %d: %x, %v; want %x", bits, n, got, err, want)
			}
		}
	}
}

// TestManyAtOnce: one key serves many goroutines, which blind it from several threads.
func TestManyAtOnce(t *testing.T) {
	k := keyOf(t, 2048)
	s, err := opened(t).Key(k)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 40 {
		wg.Go(func() {
			for n := range 5 {
				sig, err := s.Sign(nil, digest(5*g+n), crypto.SHA256)
				if err == nil {
					err = rsa.VerifyPKCS1v15(&k.PublicKey, crypto.SHA256, digest(5*g+n), sig)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestKeyRefuses(t *testing.T) {
	l := opened(t)
	damaged := *keyOf(t, 2048)
	damaged.PublicKey = keyOf(t, 2048).PublicKey
	for name, k := range map[string]*rsa.PrivateKey{"short": keyOf(t, 1024), "other modulus": &damaged} {
		if s, err := l.Key(k); err == nil {
			t.Errorf("%s: %v", name, s)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	s, err := opened(t).Key(keyOf(t, 2048))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		digest []byte
		opts   crypto.SignerOpts
	}{
		"no digest":  {nil, crypto.SHA256},
		"short":      {digest(1)[:31], crypto.SHA256},
		"other hash": {digest(1)[:20], crypto.SHA1},
		"PSS":        {digest(1), &rsa.PSSOptions{Hash: crypto.SHA256}},
	} {
		if sig, err := s.Sign(nil, c.digest, c.opts); err == nil {
			t.Errorf("%s: signed %x", name, sig)
		}
	}
}

func TestOpen(t *testing.T) {
	if v := opened(t).Version(); !strings.HasPrefix(v, "OpenSSL ") {
		t.Errorf("version %q", v)
	}
	for file, says := range map[string]string{"libcrypto.so.none": "libcrypto.so.none", "libc.so.6": "has no OpenSSL_version_num"} {
		if _, err := open(file); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestKeysAreFreed: the memory of keys that nothing refers to any more is given
// back. The 1,000 of here would take 2.3 MiB.
func TestKeysAreFreed(t *testing.T) {
	l, k := opened(t), keyOf(t, 2048)
	load := func(n int) int {
		for i := range n {
			if _, err := l.load(k); err != nil {
				t.Fatal(err)
			}
			if i%50 == 49 {
				runtime.GC()
			}
		}
		debug.FreeOSMemory()
		return resident(t)
	}
	before := load(400)
	if grown := load(1000) - before; grown > 3<<19 {
		t.Errorf("1,000 keys later the process is %d KiB larger", grown>>10)
	}
}

// resident is the memory of this process, in octets.
func resident(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	t.Log(n*os.Getpagesize()>>10, "KiB")
	return n * os.Getpagesize()
}

func BenchmarkSign(b *testing.B) {
	l := opened(b)
	for _, bits := range []int{2048, 4096} {
		k := keyOf(b, bits)
		s, err := l.Key(k)
		if err != nil {
			b.Fatal(err)
		}
		for name, signer := range map[string]crypto.Signer{"go": k, "openssl": s} {
			b.Run(fmt.Sprintf("%s/%d", name, bits), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := signer.Sign(nil, digest(0), crypto.SHA256); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
