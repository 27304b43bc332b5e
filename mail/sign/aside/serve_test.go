package aside

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// countingLibrary has keys that sign with their own octets, and counts them.
type countingLibrary struct{ held, most atomic.Int64 }

func (*countingLibrary) Version() string { return "counts" }

func (l *countingLibrary) Key(der []byte) (Key, error) {
	if n := l.held.Add(1); n > l.most.Load() {
		l.most.Store(n)
	}
	return &countingKey{library: l, name: string(der)}, nil
}

type countingKey struct {
	library *countingLibrary
	name    string
	freed   atomic.Bool
}

func (k *countingKey) Sign(*[sha256.Size]byte) ([]byte, error) {
	if k.freed.Load() {
		return nil, errors.New("signing with a key that was freed")
	}
	return []byte(k.name), nil
}

func (k *countingKey) Free() {
	if k.freed.Swap(true) {
		panic("freed twice")
	}
	k.library.held.Add(-1)
}

// dialog is a Serve to speak with.
type dialog struct {
	t    *testing.T
	in   *io.PipeWriter
	out  frames
	done chan error
}

func serving(t *testing.T, l Library) *dialog {
	in, toIn := io.Pipe()
	fromOut, out := io.Pipe()
	d := &dialog{t: t, in: toIn, out: frames{from: fromOut}, done: make(chan error, 1)}
	go func() {
		d.done <- Serve(in, out, func() (Library, error) { return l, nil })
		out.Close()
	}()
	if f, err := d.out.next(); err != nil || f.kind != kindHello || string(f.body) != l.Version() {
		t.Fatalf("hello: %+v, %v", f, err)
	}
	return d
}

func (d *dialog) send(k kind, number uint64, body []byte) {
	if _, err := d.in.Write(appendFrame(nil, k, number, body)); err != nil {
		d.t.Fatal(err)
	}
}

// ask asks for a signature and gives the answer.
func (d *dialog) ask(number, key uint64) (kind, string) {
	d.send(kindSign, number, append(binary.BigEndian.AppendUint64(nil, key), make([]byte, sha256.Size)...))
	f, err := d.out.next()
	if err != nil || f.number != number {
		d.t.Fatalf("%+v, %v; want number %d", f, err, number)
	}
	return f.kind, string(f.body)
}

func (d *dialog) end() error {
	d.in.Close()
	return <-d.done
}

// TestKeysAreBounded: the key that was not used for longest goes, and all go at
// the end.
func TestKeysAreBounded(t *testing.T) {
	l := &countingLibrary{}
	d := serving(t, l)
	for n := range uint64(maxKeys) {
		d.send(kindKey, n, []byte("key"))
		d.ask(n, n)
	}
	d.ask(0, 0) // so that 1 is the oldest
	d.send(kindKey, maxKeys, []byte("one more"))
	for n, want := range map[uint64]kind{0: kindSignature, 1: kindUnknown, 2: kindSignature, maxKeys: kindSignature, maxKeys + 1: kindUnknown} {
		if got, body := d.ask(7, n); got != want {
			t.Errorf("key %d: %q %q, want %q", n, got, body, want)
		}
	}
	d.send(kindKey, 1, []byte("handed again"))
	if _, body := d.ask(7, 1); body != "handed again" {
		t.Errorf("signed by %q", body)
	}
	d.send(kindKey, 1, []byte("handed once more"))
	if _, body := d.ask(7, 1); body != "handed once more" {
		t.Errorf("signed by %q", body)
	}
	if err := d.end(); err != nil {
		t.Error(err)
	}
	if held, most := l.held.Load(), l.most.Load(); held != 0 || most > maxKeys {
		t.Errorf("%d keys are left, %d were there at a time; want 0 and %d", held, most, maxKeys)
	}
}

// TestFreedWhileUsed: a key that goes while its signatures wait is answered as
// unknown, and is never used after.
func TestFreedWhileUsed(t *testing.T) {
	l := &countingLibrary{}
	d := serving(t, l)
	const rounds = 2000
	var wg sync.WaitGroup
	wg.Go(func() {
		for range rounds {
			f, err := d.out.next()
			if err != nil || f.kind != kindSignature && f.kind != kindUnknown {
				t.Errorf("%q %s %v", f.kind, f.body, err)
			}
		}
	})
	for n := range uint64(rounds) {
		d.send(kindKey, 1, []byte("key"))
		d.send(kindSign, n, append(binary.BigEndian.AppendUint64(nil, 1), make([]byte, sha256.Size)...))
	}
	wg.Wait()
	if err := d.end(); err != nil || l.held.Load() != 0 {
		t.Errorf("%v, %d keys are left", err, l.held.Load())
	}
}

// TestServeRefuses: requests that no relay makes end the helper.
func TestServeRefuses(t *testing.T) {
	for name, b := range map[string][]byte{
		"short digest": appendFrame(nil, kindSign, 1, make([]byte, 39)),
		"an answer":    appendFrame(nil, kindSignature, 1, make([]byte, 40)),
		"half a frame": appendFrame(nil, kindSign, 1, make([]byte, 40))[:20],
	} {
		var out bytes.Buffer
		if err := Serve(bytes.NewReader(b), &out, func() (Library, error) { return goLibrary{}, nil }); err == nil || !strings.HasPrefix(err.Error(), "re") && !strings.HasPrefix(err.Error(), "a request") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNobodyListens: a helper whose answers nobody takes ends with its input.
func TestNobodyListens(t *testing.T) {
	fails := errors.New("closed")
	if err := Serve(strings.NewReader(""), writerFunc(func([]byte) (int, error) { return 0, fails }), func() (Library, error) { return goLibrary{}, nil }); !errors.Is(err, fails) {
		t.Error(err)
	}
	n := 0
	err := Serve(bytes.NewReader(appendFrame(nil, kindSign, 1, make([]byte, 40))), writerFunc(func(b []byte) (int, error) {
		if n++; n > 1 {
			return 0, fails
		}
		return len(b), nil
	}), func() (Library, error) { return goLibrary{}, nil })
	if !errors.Is(err, fails) {
		t.Error(err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
