package render

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"behalf/mail"
	"behalf/mail/header"
	"behalf/mail/scan"
	"behalf/mail/sign"
)

var update = flag.Bool("update", false, "rewrite the .want files")

var at = time.Unix(1793869200, 0)

// input is a message as the spool would hand it over, with a hop to go by.
func input(t testing.TB, msg string) Input {
	t.Helper()
	s := scan.New()
	if _, err := s.Write([]byte(msg)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	m := &mail.Message{Size: s.Size(), HeaderSize: s.HeaderSize(), BodyHash: s.BodyHash(), Body: s.Form()}
	return Input{Message: m, Header: bytes.Clone(s.Header()), Body: Memory(msg), Hop: &mail.Hop{}, Now: func() time.Time { return at }}
}

// text is what d writes.
func text(t testing.TB, d *Rendered) string {
	t.Helper()
	var b bytes.Buffer
	n, err := d.WriteTo(&b)
	if err != nil {
		t.Fatal(err)
	}
	if n != int64(b.Len()) || n != d.Size() {
		t.Errorf("wrote %d octets, WriteTo says %d, Size %d", b.Len(), n, d.Size())
	}
	return b.String()
}

var escape = regexp.MustCompile(`\\x[0-9a-f]{2}|\{\{.\*[0-9]+\}\}`)

// unescape gives the octets a test file stands for: LF becomes CRLF, \xHH an
// octet, {{c*n}} n times c.
func unescape(s string) string {
	return escape.ReplaceAllStringFunc(strings.ReplaceAll(s, "\n", "\r\n"), func(e string) string {
		if e[0] == '\\' {
			n, _ := strconv.ParseUint(e[2:], 16, 8)
			return string([]byte{byte(n)})
		}
		n, _ := strconv.Atoi(e[4 : len(e)-2])
		return strings.Repeat(e[2:3], n)
	})
}

// apply reads a line "#! word value" of a test file.
func apply(t *testing.T, in *Input, caps *Caps, word, value string) {
	field := func() (string, string) {
		n, v, _ := strings.Cut(value, ": ")
		return n, v
	}
	edit := func(op mail.EditOp) mail.Edit {
		n, v := field()
		return mail.Edit{Op: op, Name: n, Value: v}
	}
	switch word {
	case "8bitmime":
		caps.EightBitMIME = true
	case "smtputf8":
		caps.SMTPUTF8 = true
	case "binarymime":
		caps.BinaryMIME = true
	case "front":
		in.Message.Front = append(in.Message.Front, value+"\r\n"...)
	case "hopfront":
		n, v := field()
		in.Hop.Front = append(in.Hop.Front, mail.HopHeader{Name: n, Value: v})
	case "remove":
		in.Message.Edits = append(in.Message.Edits, mail.Edit{Op: mail.EditRemove, Name: value})
	case "set":
		in.Hop.Edits = append(in.Hop.Edits, edit(mail.EditSet))
	case "prefix":
		in.Hop.Edits = append(in.Hop.Edits, edit(mail.EditPrefix))
	default:
		t.Fatalf("unknown option %q", word)
	}
}

func TestFiles(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.msg")
	if len(files) < 20 {
		t.Fatalf("only %d test files", len(files))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			body := string(raw)
			var options []string
			for strings.HasPrefix(body, "#! ") {
				line, rest, _ := strings.Cut(body, "\n")
				options, body = append(options, line[3:]), rest
			}
			in := input(t, unescape(body))
			var caps Caps
			for _, o := range options {
				word, value, _ := strings.Cut(o, " ")
				apply(t, &in, &caps, word, value)
			}
			got := rendered(t, in, caps)
			want := strings.TrimSuffix(file, ".msg") + ".want"
			if *update {
				if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			w, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(w) {
				t.Errorf("got\n%s\nwant\n%s", got, w)
			}
		})
	}
}

// rendered is the outcome as the .want files show it.
func rendered(t *testing.T, in Input, caps Caps) string {
	d, err := New(in).For(t.Context(), caps)
	if err != nil {
		var f *mail.Failure
		if !errors.As(err, &f) || f.Scope != mail.OfMessage || f.Reason != mail.ReasonCannotCarry {
			t.Fatalf("not a cannot-carry of the message: %v", err)
		}
		return "failure: " + f.Error() + "\n"
	}
	out := text(t, d)
	checkCarried(t, out, d, caps)
	var b strings.Builder
	fmt.Fprintf(&b, "# 8bit %v, utf8 %v, binary %v\n", d.EightBit(), d.UTF8(), d.Binary())
	for _, c := range []byte(strings.ReplaceAll(out, "\r\n", "\n")) {
		if c >= 0x80 || c < ' ' && c != '\n' && c != '\t' {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// checkCarried checks that a hop with caps can take msg, and that what d says
// of it is so.
func checkCarried(t testing.TB, msg string, d *Rendered, caps Caps) {
	t.Helper()
	s := scan.New()
	io.WriteString(s, msg)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f := s.Form()
	if f.UTF8 && !caps.SMTPUTF8 || f.EightBit && !caps.EightBitMIME && !caps.BinaryMIME || f.Binary && !caps.BinaryMIME || f.Long && !d.Binary() {
		t.Errorf("a hop with %+v cannot carry %+v", caps, f)
	}
	if f.UTF8 != d.UTF8() || f.EightBit && !d.EightBit() || f.Binary && !d.Binary() {
		t.Errorf("EightBit %v, UTF8 %v, Binary %v, but it is %+v", d.EightBit(), d.UTF8(), d.Binary(), f)
	}
}

var testKey = sync.OnceValue(func() sign.Key {
	return sign.Key{Domain: "acme.example", Selector: "b2", Signer: ed25519.NewKeyFromSeed(make([]byte, 32))}
})

func TestOrderAndSignatures(t *testing.T) {
	in := input(t, "From: a@acme.example\r\nBcc: x@y\r\nSubject: Grüße\r\n\r\nhällo\r\n")
	in.Keys = []sign.Key{testKey(), testKey()}
	in.Message.Front = []byte("Received: by relay\r\nDate: Tue, 03 Nov 2026 09:00:00 +0000\r\n")
	in.Message.Edits = []mail.Edit{{Op: mail.EditRemove, Name: "Bcc"}}
	in.Hop.Edits = []mail.Edit{{Op: mail.EditSet, Name: "From", Value: "b@acme.example"}}
	in.Hop.Front = []mail.HopHeader{{Name: "Feedback-ID", Value: "1:2:3:acme"}}
	for _, caps := range []Caps{{}, {EightBitMIME: true}, {EightBitMIME: true, SMTPUTF8: true}} {
		d, err := New(in).For(t.Context(), caps)
		if err != nil {
			t.Fatal(err)
		}
		msg := text(t, d)
		var names []string
		h, err := header.Parse([]byte(msg))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range h.All() {
			names = append(names, f.Name)
		}
		if got := strings.Join(names[:7], " "); got != "DKIM-Signature DKIM-Signature Feedback-ID Received Date From Subject" {
			t.Errorf("the fields stand as %s", names)
		}
		if fmt.Sprint(d.Signed()) != "[d=acme.example s=b2 a=ed25519-sha256 d=acme.example s=b2 a=ed25519-sha256]" {
			t.Errorf("signed %v", d.Signed())
		}
		if err := verify(msg); err != nil {
			t.Errorf("with %+v: %v\n%s", caps, err, msg)
		}
		if again := text(t, d); again != msg {
			t.Error("WriteTo gave something else the second time")
		}
	}
}

// verify checks every signature of msg with go-msgauth.
func verify(msg string) error {
	txt, err := sign.PublicRecord(testKey().Signer.Public())
	if err != nil {
		return err
	}
	vs, err := dkim.VerifyWithOptions(strings.NewReader(msg), &dkim.VerifyOptions{LookupTXT: func(string) ([]string, error) { return []string{txt}, nil }})
	if err != nil {
		return err
	}
	if len(vs) == 0 {
		return errors.New("no signature")
	}
	for _, v := range vs {
		err = errors.Join(err, v.Err)
	}
	return err
}

func TestSameChangeIsRenderedOnce(t *testing.T) {
	r := New(input(t, "From: a@acme.example\r\n\r\nhi\r\n"))
	a, _ := r.For(t.Context(), Caps{})
	b, _ := r.For(t.Context(), Caps{EightBitMIME: true, SMTPUTF8: true, BinaryMIME: true})
	if a == nil || a != b {
		t.Error("a plain message was rendered twice")
	}
	r = New(input(t, "From: a@acme.example\r\n\r\nhü\r\n"))
	a, _ = r.For(t.Context(), Caps{})
	b, _ = r.For(t.Context(), Caps{EightBitMIME: true})
	c, _ := r.For(t.Context(), Caps{EightBitMIME: true, SMTPUTF8: true})
	if a == b || b != c {
		t.Error("8-bit bodies: want one rendering with 8BITMIME and one without")
	}
}

// writes counts calls and notes whether the stored bytes themselves came.
type writes struct {
	n      int
	direct bool
	mem    Memory
}

func (w *writes) Write(p []byte) (int, error) {
	w.n++
	w.direct = w.direct || len(p) > 0 && len(w.mem) > 0 && &p[len(p)-1] == &w.mem[len(w.mem)-1]
	return len(p), nil
}

func TestMemoryIsWrittenWithoutACopy(t *testing.T) {
	in := input(t, "From: a@acme.example\r\n\r\n"+strings.Repeat("hello\r\n", 1000))
	in.Keys = []sign.Key{testKey()}
	d, err := New(in).For(t.Context(), Caps{})
	if err != nil {
		t.Fatal(err)
	}
	w := &writes{mem: in.Body.(Memory)}
	if _, err := d.WriteTo(w); err != nil || !w.direct || w.n != 3 {
		t.Errorf("%d writes, the stored bytes among them: %v, %v", w.n, w.direct, err)
	}
}

func TestStoredOnDisk(t *testing.T) {
	msg := "From: a@acme.example\r\n\r\n" + strings.Repeat("hello wörld\r\n", 20000)
	file := filepath.Join(t.TempDir(), "m")
	if err := os.WriteFile(file, []byte(msg), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, caps := range []Caps{{}, {EightBitMIME: true}} {
		in := input(t, msg)
		in.Header, in.Keys = nil, []sign.Key{testKey()}
		inMemory, err := New(in).For(t.Context(), caps)
		if err != nil {
			t.Fatal(err)
		}
		in.Body = f
		onDisk, err := New(in).For(t.Context(), caps)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := text(t, inMemory), text(t, onDisk); a != b {
			t.Error("memory and disk give different messages")
		} else if err := verify(b); err != nil {
			t.Error(err)
		}
	}
	in := input(t, msg)
	if err := os.Truncate(file, 1000); err != nil {
		t.Fatal(err)
	}
	in.Body = f
	if _, err := New(in).For(t.Context(), Caps{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a body cut short, re-encoded: %v", err)
	}
	d, err := New(in).For(t.Context(), Caps{EightBitMIME: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.WriteTo(io.Discard); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a body cut short: %v", err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := New(input(t, "From: a@acme.example\r\n\r\nhü\r\n"))
	d, err := r.For(ctx, Caps{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := r.For(ctx, Caps{EightBitMIME: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("For: %v", err)
	}
	if err := d.Prepare(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Prepare: %v", err)
	}
	if err := d.Prepare(t.Context()); err != nil {
		t.Errorf("Prepare after a cancelled one: %v", err)
	}
}

func TestMemoryReadAt(t *testing.T) {
	m := Memory("hello")
	b := make([]byte, 3)
	for off, want := range map[int64]string{0: "hel", 2: "llo", 3: "lo", 5: "", 6: ""} {
		n, err := m.ReadAt(b, off)
		if string(b[:n]) != want || (err == io.EOF) != (len(want) < 3) {
			t.Errorf("at %d: %q, %v", off, b[:n], err)
		}
	}
}

func benchmark(b *testing.B, msg string, caps Caps) {
	in := input(b, msg)
	in.Keys = []sign.Key{testKey()}
	in.Message.Front = []byte("Received: by relay.platform.example with ESMTPSA id 0123456789abcdefghijklmnop;\r\n Tue, 03 Nov 2026 09:00:00 +0000\r\n")
	in.Message.Edits = []mail.Edit{{Op: mail.EditRemove, Name: "Bcc"}, {Op: mail.EditRemove, Name: "Return-Path"}, {Op: mail.EditRemove, Name: "Behalf-Tag"}}
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		d, err := New(in).For(context.Background(), caps)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := d.WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRender(b *testing.B) {
	const head = "From: Acme <a@acme.example>\r\nTo: b@dest.example\r\nSubject: hello\r\nDate: Tue, 03 Nov 2026 09:00:00 +0000\r\n" +
		"Message-ID: <1@acme.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nBehalf-Tag: x\r\n\r\n"
	for _, size := range []int{4, 64} {
		plain := head + strings.Repeat("A line of text as letters have them, with some words in it.\r\n", size<<10/61)
		b.Run(fmt.Sprintf("asis/%dKiB", size), func(b *testing.B) { benchmark(b, plain, Caps{}) })
		b.Run(fmt.Sprintf("encoded/%dKiB", size), func(b *testing.B) { benchmark(b, plain+"ü\r\n", Caps{}) })
	}
}

// TestSignsWhatIsNotHashed: a message of which acceptance expected no signature is
// signed like any other, be it in memory or not, whole or encoded anew.
func TestSignsWhatIsNotHashed(t *testing.T) {
	for _, body := range []string{"", "hi  there \r\n\r\n", "hü\r\n", strings.Repeat("a line  of many \r\n", 9000)} {
		for _, memory := range []bool{true, false} {
			in := input(t, "From: a@acme.example\r\n\r\n"+body)
			in.Keys = []sign.Key{testKey()}
			hashed := New(in)
			m := *in.Message
			m.BodyHash = [32]byte{}
			in.Message = &m
			if !memory {
				in.Body = strings.NewReader("From: a@acme.example\r\n\r\n" + body)
			}
			r := New(in)
			for _, caps := range []Caps{{}, {EightBitMIME: true}} {
				want, err := hashed.For(t.Context(), caps)
				if err != nil {
					t.Fatal(err)
				}
				d, err := r.For(t.Context(), caps)
				if err != nil {
					t.Fatal(err)
				}
				msg := text(t, d)
				if err := verify(msg); err != nil {
					t.Errorf("%.20q, in memory %v, %+v: %v", body, memory, caps, err)
				}
				if msg != text(t, want) {
					t.Errorf("%.20q, in memory %v, %+v: another signature than with the stored hash", body, memory, caps)
				}
			}
		}
	}
}

// TestUnreadableBodyIsNotSigned: without its hash a body that cannot be read whole
// is sent to nobody; without a signature it is not read before it is sent.
func TestUnreadableBodyIsNotSigned(t *testing.T) {
	in := input(t, "From: a@acme.example\r\n\r\nhi there\r\n")
	in.Message.BodyHash = [32]byte{}
	in.Body = strings.NewReader("From: a@acme.example\r\n\r\nhi")
	if _, err := New(in).For(t.Context(), Caps{}); err != nil {
		t.Errorf("unsigned: %v", err)
	}
	in.Keys = []sign.Key{testKey()}
	if _, err := New(in).For(t.Context(), Caps{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("signed: %v", err)
	}
}

// undottedTo notes what it is told to be without dots.
type undottedTo struct {
	strings.Builder
	told string
}

func (u *undottedTo) WriteUndotted(p []byte) (int, error) {
	u.told += string(p)
	return u.Write(p)
}

// TestUndotted: a body in memory is said to need no dot-stuffing only where that is
// known of the very octets that are sent.
func TestUndotted(t *testing.T) {
	const head = "From: a@acme.example\r\n\r\n"
	for _, c := range []struct {
		name, body string
		change     func(*Input)
		caps       Caps
		want       bool
	}{
		{"plain", "a\r\nb.\r\n", nil, Caps{}, true},
		{"a dot", "a\r\n.b\r\n", nil, Caps{}, false},
		{"a dot first", ".", nil, Caps{}, false},
		{"a record of before", "a\r\n", func(in *Input) { in.Message.Body.Undotted = false }, Caps{}, false},
		{"from the store", "a\r\n", func(in *Input) { in.Body = strings.NewReader(head + "a\r\n") }, Caps{}, false},
		{"binary", "a\nb", nil, Caps{BinaryMIME: true}, false},
		{"encoded for the hop", "\xfc\r\n", nil, Caps{}, false},
		{"carried by the hop", "\xfc\r\n", nil, Caps{EightBitMIME: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := input(t, head+c.body)
			if c.change != nil {
				c.change(&in)
			}
			d, err := New(in).For(t.Context(), c.caps)
			if err != nil {
				t.Fatal(err)
			}
			var w undottedTo
			if _, err := d.WriteTo(&w); err != nil {
				t.Fatal(err)
			}
			if want := map[bool]string{true: c.body}[c.want]; w.told != want || w.String() != text(t, d) {
				t.Errorf("told of %q, want %q; wrote %q", w.told, want, w.String())
			}
		})
	}
}
