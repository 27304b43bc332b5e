package aside

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"behalf/internal/testkit/need"
)

// running is a helper that runs until the test ends.
type running struct {
	*Helper
	log  bytes.Buffer  // whole after stop
	over chan struct{} // closed when Run has returned
	stop func()
}

func started(t testing.TB, name string, change ...func(*Helper)) *running {
	t.Helper()
	r := &running{over: make(chan struct{})}
	r.Helper = New(program(t, name), Options{Log: slog.New(slog.NewTextHandler(&r.log, nil))})
	r.times.again = 10 * time.Millisecond
	for _, f := range change {
		f(r.Helper)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(r.over)
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	r.stop = func() { cancel(); <-r.over }
	t.Cleanup(r.stop)
	return r
}

// up waits until a child after the n-th signs.
func up(t testing.TB, h *running, n uint64) *child {
	t.Helper()
	for range 6000 {
		if c := h.child.Load(); c != nil && c.generation > n {
			return c
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the helper does not come up")
	return nil
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

// signs checks that a signer makes what crypto/rsa makes.
func signs(t testing.TB, s crypto.Signer, k *rsa.PrivateKey, n int) {
	t.Helper()
	got, err := s.Sign(rand.Reader, digest(n), crypto.SHA256)
	want, werr := rsa.SignPKCS1v15(nil, k, crypto.SHA256, digest(n))
	if err != nil || werr != nil || !bytes.Equal(got, want) {
		t.Errorf("digest %d: %x, %v; want %x, %v", n, got, err, want, werr)
	}
}

// TestSameOctets: it cannot be told from a message who signed it.
func TestSameOctets(t *testing.T) {
	nothingLeft(t)
	h := started(t, "openssl")
	if _, err := openLibcrypto(); err != nil {
		need.Missing(t, "this host has no OpenSSL 3: ", err)
	}
	c := up(t, h, 0)
	for _, bits := range []int{1024, 2048, 3072, 4096} {
		k := keyOf(t, bits)
		s := h.Key(k)
		if !k.PublicKey.Equal(s.Public()) {
			t.Errorf("%d bits: another public key", bits)
		}
		for n := range 5 {
			signs(t, s, k, n)
		}
		if s.(*key).proved.Load() != c.generation {
			t.Errorf("%d bits: the helper has signed nothing", bits)
		}
	}
	h.stop()
	if got := h.log.String(); !strings.Contains(got, `level=INFO msg="RSA signatures" by="OpenSSL 3`) || strings.Count(got, "\n") != 1 {
		t.Error(got)
	}
}

// TestOthersAreGo: what the helper is not asked for is signed as ever.
func TestOthersAreGo(t *testing.T) {
	h := started(t, "go")
	up(t, h, 0)
	k := keyOf(t, 2048)
	s := h.Key(k)
	sum := digest(1)
	pss, err := s.Sign(rand.Reader, sum, &rsa.PSSOptions{Hash: crypto.SHA256})
	if err == nil {
		err = rsa.VerifyPSS(&k.PublicKey, crypto.SHA256, sum, pss, nil)
	}
	if err != nil {
		t.Errorf("PSS: %v", err)
	}
	sha1, err := s.Sign(rand.Reader, sum[:20], crypto.SHA1)
	if err == nil {
		err = rsa.VerifyPKCS1v15(&k.PublicKey, crypto.SHA1, sum[:20], sha1)
	}
	if err != nil {
		t.Errorf("SHA-1: %v", err)
	}
	if sig, err := s.Sign(rand.Reader, sum[:31], crypto.SHA256); err == nil {
		t.Errorf("a digest of 31 octets: %x", sig)
	}
	short := *k
	short.Primes = append(short.Primes[:2:2], short.Primes[0])
	if s := h.Key(&short); s != crypto.Signer(&short) {
		t.Errorf("a key of three primes: %T", s)
	}
}

// TestManyCallers: more than may be in flight share the pipe, with several keys.
func TestManyCallers(t *testing.T) {
	nothingLeft(t)
	h := started(t, "go", patient)
	up(t, h, 0)
	keys := []*rsa.PrivateKey{keyOf(t, 1024), keyOf(t, 1024), keyOf(t, 1024)}
	var signers []crypto.Signer
	for _, k := range keys {
		signers = append(signers, h.Key(k))
	}
	var wg sync.WaitGroup
	for n := range 2 * inFlight {
		wg.Go(func() {
			for i := range keys {
				signs(t, signers[i], keys[i], n)
			}
		})
	}
	wg.Wait()
	h.stop()
	if n := h.children.Load(); n != 1 {
		t.Errorf("the helper was started %d times", n)
	}
}

// patient gives a slow machine time.
func patient(h *Helper) { h.times.hello, h.times.answer = time.Minute, time.Minute }

// TestKilled: who waits when the helper dies gets Go's signature, and later
// there is a helper again.
func TestKilled(t *testing.T) {
	nothingLeft(t)
	h := started(t, "go", patient)
	k := keyOf(t, 2048)
	s := h.Key(k)
	first := up(t, h, 0)
	var wg sync.WaitGroup
	var count atomic.Int64
	for g := range 20 {
		wg.Go(func() {
			for n := range 10 {
				signs(t, s, k, 10*g+n)
				if count.Add(1) == 60 {
					first.kill()
				}
			}
		})
	}
	wg.Wait()
	second := up(t, h, first.generation)
	signs(t, s, k, -1)
	if s.(*key).proved.Load() != second.generation {
		t.Error("the new helper has signed nothing")
	}
	h.stop()
	for _, want := range []string{`level=WARN msg="RSA signatures" by=Go err="the helper has ended: signal: killed" helper_again_in=10ms`, "level=INFO"} {
		if !strings.Contains(h.log.String(), want) {
			t.Errorf("no %s in %s", want, h.log.String())
		}
	}
}

// TestBadHelpers: whatever the helper does, Go's signature comes, soon, and the
// log says why.
func TestBadHelpers(t *testing.T) {
	k := keyOf(t, 1024)
	for name, c := range map[string]struct {
		log    string
		starts bool // again
	}{
		"absent":    {`level=WARN msg="RSA signatures" by=Go err="no such library"`, false},
		"other":     {`level=WARN msg="RSA signatures" by=Go err="the helper is of another version`, false},
		"mute":      {`level=WARN msg="RSA signatures" by=Go err="the helper did not answer in time"`, true},
		"noise":     {`err="a frame of more than 4096 octets"`, true},
		"ends":      {`err="the helper has ended"`, true},
		"complains": {`err="the helper has ended: exit status 3; it said: out of luck\nluck luck`, true},
		"hangs":     {`err="the helper did not answer in time"`, true},
		"babbles":   {`err="the helper answered what was not asked"`, true},
		"false":     {`level=ERROR msg="RSA signatures" by=Go err="the helper made a false RSA signature"`, false},
	} {
		t.Run(name, func(t *testing.T) {
			nothingLeft(t)
			h := started(t, name, patient, func(h *Helper) {
				switch name {
				case "mute":
					h.times.hello = 200 * time.Millisecond
				case "hangs":
					h.times.answer = 200 * time.Millisecond
				}
			})
			s := h.Key(k)
			over := func() bool {
				select {
				case <-h.over:
					return true
				case <-time.After(time.Millisecond):
					return h.children.Load() > 1
				}
			}
			for n := 0; !over(); n++ {
				signs(t, s, k, n)
			}
			h.stop()
			signs(t, s, k, -1)
			if again := h.children.Load() > 1; again != c.starts || !strings.Contains(h.log.String(), c.log) {
				t.Errorf("started again %v, want %v; want %s in\n%s", again, c.starts, c.log, h.log.String())
			}
		})
	}
}

// TestRefusedKey: a key that the helper does not take is Go's from then on; the
// helper goes on with others.
func TestRefusedKey(t *testing.T) {
	h := started(t, "refuses")
	c := up(t, h, 0)
	k := keyOf(t, 1024)
	s := h.Key(k)
	for n := range 3 {
		signs(t, s, k, n)
	}
	if h.child.Load() != c {
		t.Error("the helper ended")
	}
	h.stop()
	if got := h.log.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, `err="forbidden here"`) {
		t.Error(got)
	}
}

// TestForgottenKey: a key that the helper has forgotten is handed over again,
// and once only.
func TestForgottenKey(t *testing.T) {
	h := started(t, "forgets")
	c := up(t, h, 0)
	k := keyOf(t, 1024)
	for n := range 3 {
		signs(t, h.Key(k), k, n)
	}
	if c.mu.Lock(); c.last != 6 || c.cause != nil {
		t.Errorf("%d requests, want 6; %v", c.last, c.cause)
	}
	c.mu.Unlock()
}

// TestDamagedKey: a key with which nobody can sign is not the helper's fault.
func TestDamagedKey(t *testing.T) {
	h := started(t, "false")
	up(t, h, 0)
	damaged := *keyOf(t, 1024)
	damaged.PublicKey = keyOf(t, 1024).PublicKey
	if sig, err := h.Key(&damaged).Sign(rand.Reader, digest(1), crypto.SHA256); err == nil {
		t.Errorf("signed %x", sig)
	}
	if h.child.Load() == nil {
		t.Error("the helper ended")
	}
}

// TestFull: a caller that gets no turn in time signs by itself, and the helper,
// which may be fine, goes on.
func TestFull(t *testing.T) {
	h := started(t, "go", func(h *Helper) { h.times.answer = 20 * time.Millisecond })
	c := up(t, h, 0)
	for range inFlight {
		c.slots <- struct{}{}
	}
	k := keyOf(t, 1024)
	signs(t, h.Key(k), k, 1)
	if h.child.Load() != c {
		t.Error("the helper ended")
	}
}

// TestSlow: callers for whom the helper is too slow sign by themselves, and it
// goes on for the others, and for them when it has caught up.
func TestSlow(t *testing.T) {
	nothingLeft(t)
	h := started(t, "slow", func(h *Helper) { h.times.answer = time.Second })
	c := up(t, h, 0)
	k := keyOf(t, 1024)
	s := h.Key(k)
	const callers = 3 * inFlight
	var wg sync.WaitGroup
	for n := range callers {
		wg.Go(func() { signs(t, s, k, n) })
	}
	wg.Wait()
	c.mu.Lock()
	asked, left := c.last, len(c.calls)
	c.mu.Unlock()
	if asked == callers || left == 0 {
		t.Errorf("%d of %d asked, %d wait for an answer: nobody was impatient", asked, callers, left)
	}
	for ; left > 0 && h.child.Load() == c; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		left = len(c.calls)
		c.mu.Unlock()
	}
	if len(c.slots) > 0 {
		t.Errorf("%d slots are lost", len(c.slots))
	}
	other := h.Key(k)
	signs(t, other, k, -1)
	if h.children.Load() != 1 || other.(*key).proved.Load() != c.generation {
		h.stop()
		t.Errorf("the helper signs no more; it was started %d times: %s", h.children.Load(), h.log.String())
	}
}

// TestHangsFull: a helper that hangs is ended, also by those who get no slot.
func TestHangsFull(t *testing.T) {
	nothingLeft(t)
	h := started(t, "hangs", func(h *Helper) { h.times.answer = 200 * time.Millisecond })
	c := up(t, h, 0)
	k := keyOf(t, 1024)
	s := h.Key(k)
	var wg sync.WaitGroup
	for n := range inFlight + 20 {
		wg.Go(func() { signs(t, s, k, n) })
	}
	wg.Wait()
	select {
	case <-c.ended:
	case <-time.After(time.Minute):
		t.Error("the helper was not ended")
	}
}

// TestGrandchild: who holds the output of a helper that was killed is not waited for.
func TestGrandchild(t *testing.T) {
	nothingLeft(t)
	h := started(t, "parent", func(h *Helper) { h.times.end = 50 * time.Millisecond })
	up(t, h, 0)
	began := time.Now()
	h.stop()
	if d := time.Since(began); d > 15*time.Second {
		t.Errorf("it took %s", d)
	}
}

// TestNoHelper: this is how it is without the program.
func TestNoHelper(t *testing.T) {
	nothingLeft(t)
	var log bytes.Buffer
	h := New("/nowhere/behalf-rsa", Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	k := keyOf(t, 1024)
	signs(t, h.Key(k), k, 1)
	if err := h.Run(t.Context()); err != nil {
		t.Error(err)
	}
	signs(t, h.Key(k), k, 2)
	if want := `level=INFO msg="RSA signatures" by=Go why="there is no /nowhere/behalf-rsa"`; !strings.Contains(log.String(), want) {
		t.Errorf("want %s in %s", want, log.String())
	}
}

// TestNotExecutable: what cannot be run at all is not tried twice.
func TestNotExecutable(t *testing.T) {
	nothingLeft(t)
	path := file(t, "behalf-rsa", []byte("not a program"))
	var log bytes.Buffer
	if err := New(path, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}).Run(t.Context()); err != nil {
		t.Error(err)
	}
	if want := `level=WARN msg="RSA signatures" by=Go err="start ` + path + ", which needs glibc: "; !strings.Contains(log.String(), want) {
		t.Errorf("want %s in %s", want, log.String())
	}
}

// TestStays: a helper that does not end when it should is ended.
func TestStays(t *testing.T) {
	nothingLeft(t)
	h := started(t, "stays", func(h *Helper) { h.times.end = 50 * time.Millisecond })
	up(t, h, 0)
	h.stop()
}

func TestVersion(t *testing.T) {
	nothingLeft(t)
	for name, want := range map[string]string{"go": "Go aside", "tells": "0 variables, in /", "absent": ""} {
		got, err := New(program(t, name), Options{}).Version(t.Context())
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
}
