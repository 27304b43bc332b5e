package libcrypto

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"

	"behalf/internal/testkit/need"
)

func opened(t testing.TB) *Library {
	t.Helper()
	l, err := Open(Soname)
	if err != nil {
		need.Missing(t, "this host has no OpenSSL 3: ", err)
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
func digest(n int) [sha256.Size]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
}

// TestSameOctets: a signature is what crypto/rsa makes, from either form of a key.
func TestSameOctets(t *testing.T) {
	l := opened(t)
	for _, bits := range []int{1024, 2048, 3072, 4096} {
		k := keyOf(t, bits)
		pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		for form, der := range map[string][]byte{"PKCS #1": x509.MarshalPKCS1PrivateKey(k), "PKCS #8": pkcs8} {
			held, err := l.Key(der)
			if err != nil {
				t.Fatal(err)
			}
			defer held.Free()
			clear(der)
			runtime.GC()
			for n := range 10 {
				d := digest(n)
				want, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, d[:])
				if err != nil {
					t.Fatal(err)
				}
				got, err := held.Sign(&d)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%d bits, %s, digest %d: %x, %v; want %x", bits, form, n, got, err, want)
				}
			}
		}
	}
}

// TestManyAtOnce: one key serves many goroutines, which blind it from several threads.
func TestManyAtOnce(t *testing.T) {
	k := keyOf(t, 2048)
	held, err := opened(t).Key(x509.MarshalPKCS1PrivateKey(k))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Free()
	var wg sync.WaitGroup
	for g := range 40 {
		wg.Go(func() {
			for n := range 5 {
				d := digest(5*g + n)
				sig, err := held.Sign(&d)
				if err == nil {
					err = rsa.VerifyPKCS1v15(&k.PublicKey, crypto.SHA256, d[:], sig)
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
	der := x509.MarshalPKCS1PrivateKey(keyOf(t, 1024))
	for name, der := range map[string][]byte{"nothing": nil, "noise": bytes.Repeat([]byte{7}, 600), "half": der[:len(der)/2]} {
		if k, err := l.Key(der); err == nil || !strings.HasPrefix(err.Error(), "read an RSA key: ") {
			t.Errorf("%s: %v %v", name, k, err)
		}
	}
}

// TestOtherKinds: what is a key but not of RSA signs nothing.
func TestOtherKinds(t *testing.T) {
	der := []byte{0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20} // Ed25519 in PKCS #8
	k, err := opened(t).Key(append(der, make([]byte, 32)...))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Free()
	d := digest(0)
	if sig, err := k.Sign(&d); err == nil {
		t.Errorf("signed %x", sig)
	}
}

func TestOpen(t *testing.T) {
	if v := opened(t).Version(); !strings.HasPrefix(v, "OpenSSL ") {
		t.Errorf("version %q", v)
	}
	for file, says := range map[string]string{"libcrypto.so.none": "libcrypto.so.none", "libc.so.6": "libc.so.6 has no "} {
		if _, err := Open(file); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestFree: memory is given back. The 700 keys of here would take 4.7 MiB.
func TestFree(t *testing.T) {
	l, der, d := opened(t), x509.MarshalPKCS1PrivateKey(keyOf(t, 2048)), digest(0)
	use := func(n int) int {
		for range n {
			k, err := l.Key(der)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := k.Sign(&d); err != nil {
				t.Fatal(err)
			}
			k.Free()
		}
		debug.FreeOSMemory() // Go's
		return resident(t)
	}
	before := use(300)
	if grown := use(700) - before; grown > 5<<19 {
		t.Errorf("700 keys later the process is %d KiB larger", grown>>10)
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
