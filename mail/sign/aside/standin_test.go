package aside

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"behalf/internal/libcrypto"
)

// TestMain is a helper if the program was started by the name of one.
func TestMain(m *testing.M) {
	if helper, ok := helpers[filepath.Base(os.Args[0])]; ok {
		helper()
		return
	}
	os.Exit(m.Run())
}

// helpers are programs to sign aside, most of which do not as they should.
var helpers = map[string]func(){
	"openssl": func() { serve(openLibcrypto) },
	"go":      func() { serve(func() (Library, error) { return goLibrary{}, nil }) },
	"absent":  func() { serve(func() (Library, error) { return nil, errors.New("no such library") }) },
	"false":   func() { serve(func() (Library, error) { return falseLibrary{}, nil }) },
	"refuses": func() { serve(func() (Library, error) { return refusingLibrary{}, nil }) },
	"mute":    func() { io.Copy(io.Discard, os.Stdin) },
	"noise":   func() { os.Stdout.Write(bytes.Repeat([]byte("noise"), 9999)) },
	"other":   func() { os.Stdout.Write(appendFrame(nil, kindHello, protocol+1)) },
	"ends":    func() { hello("OpenSSL") },
	"slow":    func() { serve(func() (Library, error) { return &slowLibrary{}, nil }) },
	"complains": func() {
		hello("OpenSSL")
		os.Stderr.WriteString("out of luck\n" + strings.Repeat("luck ", 1<<20))
		os.Exit(3)
	},
	"lingers": func() { time.Sleep(20 * time.Second) },
	"parent": func() {
		child := &exec.Cmd{Path: "/proc/self/exe", Args: []string{"lingers"}, Stdout: os.Stdout, Stderr: os.Stderr}
		if child.Start() != nil {
			os.Exit(1)
		}
		hello("OpenSSL")
		time.Sleep(time.Hour)
	},
	"hangs": func() { hello("OpenSSL"); io.Copy(io.Discard, os.Stdin) },
	"stays": func() { hello("OpenSSL"); time.Sleep(time.Hour) },
	"babbles": func() {
		hello("OpenSSL")
		(&frames{from: os.Stdin}).next()
		os.Stdout.Write(appendFrame(nil, kindSignature, 77, []byte("for nobody")))
		io.Copy(io.Discard, os.Stdin)
	},
	"forgets": func() {
		hello("OpenSSL")
		for in := (&frames{from: os.Stdin}); ; {
			f, err := in.next()
			if err != nil {
				return
			}
			if f.kind == kindSign {
				os.Stdout.Write(appendFrame(nil, kindUnknown, f.number))
			}
		}
	},
	"tells": func() {
		dir, _ := os.Getwd()
		hello(fmt.Sprintf("%d variables, in %s", len(os.Environ()), dir))
	},
}

func serve(open func() (Library, error)) {
	if Serve(os.Stdin, os.Stdout, open) != nil {
		os.Exit(1)
	}
}

func hello(version string) {
	os.Stdout.Write(appendFrame(nil, kindHello, protocol, []byte(version)))
}

func openLibcrypto() (Library, error) {
	l, err := libcrypto.Open(libcrypto.Soname)
	return opensslLibrary{l}, err
}

type opensslLibrary struct{ *libcrypto.Library }

func (l opensslLibrary) Key(der []byte) (Key, error) { return l.Library.Key(der) }

// goLibrary signs with crypto/rsa.
type goLibrary struct{}

func (goLibrary) Version() string { return "Go aside" }

func (goLibrary) Key(der []byte) (Key, error) {
	k, err := x509.ParsePKCS1PrivateKey(der)
	return goKey{k}, err
}

type goKey struct{ *rsa.PrivateKey }

func (k goKey) Sign(digest *[sha256.Size]byte) ([]byte, error) {
	return rsa.SignPKCS1v15(nil, k.PrivateKey, crypto.SHA256, digest[:])
}
func (goKey) Free() {}

// slowLibrary makes one signature at a time, and takes its time.
type slowLibrary struct {
	goLibrary
	mu sync.Mutex
}

func (l *slowLibrary) Key(der []byte) (Key, error) {
	k, err := l.goLibrary.Key(der)
	return slowKey{k, &l.mu}, err
}

type slowKey struct {
	Key
	mu *sync.Mutex
}

func (k slowKey) Sign(digest *[sha256.Size]byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	time.Sleep(10 * time.Millisecond)
	return k.Key.Sign(digest)
}

// falseLibrary makes false signatures, as a broken processor would.
type falseLibrary struct{ goLibrary }

func (l falseLibrary) Key(der []byte) (Key, error) {
	k, err := l.goLibrary.Key(der)
	return falseKey{k}, err
}

type falseKey struct{ Key }

func (k falseKey) Sign(digest *[sha256.Size]byte) ([]byte, error) {
	sig, err := k.Key.Sign(digest)
	sig[len(sig)/2] ^= 4
	return sig, err
}

// refusingLibrary takes no key.
type refusingLibrary struct{ goLibrary }

func (refusingLibrary) Key([]byte) (Key, error) { return nil, errors.New("forbidden here") }

// program is this one under the name of a helper.
func program(t testing.TB, name string) string {
	t.Helper()
	if helpers[name] == nil {
		t.Fatalf("no helper %s", name)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, name, b)
}

// file is an executable in a folder of its own, whatever the umask.
func file(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	err := os.WriteFile(path, b, 0o755)
	for _, at := range []string{path, filepath.Dir(path)} {
		err = errors.Join(err, os.Chmod(at, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// nothingLeft fails a test that leaves goroutines, descriptors or children behind.
func nothingLeft(t *testing.T) {
	t.Helper()
	count := func() [2]int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return [2]int{runtime.NumGoroutine(), len(fds)}
	}
	before := count()
	t.Cleanup(func() {
		after := count()
		more := func() bool { return after[0] > before[0] || after[1] > before[1] }
		for end := time.Now().Add(10 * time.Second); more() && time.Now().Before(end); after = count() {
			time.Sleep(time.Millisecond) // a goroutine ends just after it has said so
		}
		if more() {
			t.Errorf("goroutines and descriptors: %v, before %v", after, before)
		}
	})
}
