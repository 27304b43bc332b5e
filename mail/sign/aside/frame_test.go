package aside

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// TestFrames: what was written is read, in whatever pieces it comes.
func TestFrames(t *testing.T) {
	want := []frame{{kindHello, protocol, []byte("OpenSSL")}, {kindUnknown, 1 << 60, nil}, {kindKey, 7, bytes.Repeat([]byte{1}, maxFrame-headSize)}, {kindSign, 8, make([]byte, 40)}}
	want = slices.Concat(want, want, want, want, want, want, want, want, want)
	var b []byte
	for _, f := range want {
		b = appendFrame(b, f.kind, f.number, f.body[:len(f.body)/3], f.body[len(f.body)/3:])
	}
	for name, from := range map[string]io.Reader{"at once": bytes.NewReader(b), "octets": iotest.OneByteReader(bytes.NewReader(b)), "halves": iotest.HalfReader(bytes.NewReader(b))} {
		r := &frames{from: from}
		for i, w := range want {
			if f, err := r.next(); err != nil || f.kind != w.kind || f.number != w.number || !bytes.Equal(f.body, w.body) {
				t.Fatalf("%s, frame %d: %+v, %v; want %+v", name, i, f, err, w)
			}
		}
		if f, err := r.next(); !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: at the end: %v %v", name, f, err)
		}
	}
}

func TestBadFrames(t *testing.T) {
	for in, want := range map[string]string{
		"\x00\x00\x10\x00":              "more than 4096",
		"\xff\xff\xff\xff":              "more than 4096",
		"\x00\x00\x00\x08":              "of 12 octets",
		"\x00\x00":                      "unexpected EOF",
		"\x00\x00\x00\x09S12345678\x00": "unexpected EOF",
	} {
		r := &frames{from: strings.NewReader(in)}
		var err error
		for err == nil {
			_, err = r.next()
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
}

// TestKeysFit: the largest key that is handed over has room in a frame.
func TestKeysFit(t *testing.T) {
	if n := len(x509.MarshalPKCS1PrivateKey(keyOf(t, 4096))); n > maxFrame-headSize {
		t.Errorf("%d octets", n)
	}
}

// TestNoKeyStaysInTheBuffer: what was half read of a key is not left where it was.
func TestNoKeyStaysInTheBuffer(t *testing.T) {
	secret := bytes.Repeat([]byte("secret"), 100)
	b := appendFrame(appendFrame(nil, kindUnknown, 1), kindKey, 2, secret)
	r := &frames{from: io.MultiReader(bytes.NewReader(b[:300]), bytes.NewReader(b[300:]))}
	for range 2 {
		f, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		clear(f.body)
	}
	if bytes.Contains(r.buf[:], []byte("secret")) {
		t.Error("it is")
	}
}

// FuzzFrames: any octets in any pieces give the frames that they give at once.
func FuzzFrames(f *testing.F) {
	f.Add(appendFrame(appendFrame(nil, kindHello, 1, []byte("OpenSSL")), kindSignature, 2, make([]byte, 256)))
	f.Add([]byte{0, 0, 16, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, pieces := &frames{from: bytes.NewReader(b)}, &frames{from: iotest.HalfReader(iotest.OneByteReader(bytes.NewReader(b)))}
		for {
			w, werr := whole.next()
			p, perr := pieces.next()
			if w.kind != p.kind || w.number != p.number || !bytes.Equal(w.body, p.body) || (werr == nil) != (perr == nil) {
				t.Fatalf("%+v %v; in pieces %+v %v", w, werr, p, perr)
			}
			if werr != nil {
				return
			}
			if got := appendFrame(nil, w.kind, w.number, w.body); !bytes.Contains(b, got) {
				t.Fatalf("%x is not in the input", got)
			}
		}
	})
}

// FuzzServe: the helper ends whatever it is sent.
func FuzzServe(f *testing.F) {
	f.Add(appendFrame(appendFrame(nil, kindKey, 1, []byte("key")), kindSign, 2, make([]byte, 7), []byte{1}, digest(1)))
	f.Add(appendFrame(nil, kindSign, 2, make([]byte, 40)))
	f.Add(appendFrame(nil, kindHello, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		var out bytes.Buffer
		l := &countingLibrary{}
		err := Serve(bytes.NewReader(b), &out, func() (Library, error) { return l, nil })
		if n := l.held.Load(); n != 0 {
			t.Fatalf("%d keys are left", n)
		}
		r := &frames{from: &out}
		for first := true; ; first = false {
			f, ferr := r.next()
			if errors.Is(ferr, io.EOF) {
				return
			}
			if ferr != nil || first != (f.kind == kindHello) {
				t.Fatalf("an answer %+v, %v; served: %v", f, ferr, err)
			}
		}
	})
}

// FuzzAnswers: whatever a helper says, who waits is answered when it ends.
func FuzzAnswers(f *testing.F) {
	h := appendFrame(nil, kindHello, protocol, []byte("OpenSSL"))
	f.Add(appendFrame(h, kindSignature, 1, make([]byte, 128)))
	f.Add(appendFrame(appendFrame(h, kindUnknown, 1), kindUnknown, 1))
	f.Add(appendFrame(nil, kindNoLibrary, protocol, []byte("none")))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &child{kill: func() {}, slots: make(chan struct{}, 1), ready: make(chan struct{}), ended: make(chan struct{}), calls: map[uint64]chan<- answer{}}
		call := make(chan answer, 1)
		c.slots <- struct{}{}
		c.expect(call, time.Now())
		c.read(bytes.NewReader(b))
		<-c.ended
		select {
		case <-call:
		default:
			t.Fatal("the caller still waits")
		}
		if c.cause == nil {
			t.Fatal("it ended for no reason")
		}
	})
}
