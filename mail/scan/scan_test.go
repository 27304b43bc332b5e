package scan

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	"behalf/mail"
	"behalf/mail/header"
)

// scanAll writes msg in pieces of the given size.
func scanAll(t testing.TB, msg string, piece int) *Scanner {
	t.Helper()
	return scanWith(t, New(), msg, piece)
}

func scanWith(t testing.TB, s *Scanner, msg string, piece int) *Scanner {
	t.Helper()
	for rest := msg; rest != ""; {
		n := min(piece, len(rest))
		if _, err := s.Write([]byte(rest[:n])); err != nil {
			t.Fatalf("Write: %v", err)
		}
		rest = rest[n:]
	}
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	return s
}

var oracleKey = ed25519.NewKeyFromSeed(make([]byte, 32))

// oracle is the relaxed body hash as go-msgauth computes it.
func oracle(t testing.TB, body string) string {
	t.Helper()
	s, err := dkim.NewSigner(&dkim.SignOptions{Domain: "d.example", Selector: "s", Signer: oracleKey,
		HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed, HeaderKeys: []string{"From"}})
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(s, "From: a@d.example\r\n\r\n"+body)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`bh=([^;]+)`).FindStringSubmatch(s.Signature())
	return strings.Join(strings.Fields(m[1]), "")
}

func b64(sum [32]byte) string { return base64.StdEncoding.EncodeToString(sum[:]) }

func TestBodyHash(t *testing.T) {
	for _, body := range []string{
		"", "\r\n", "\r\n\r\n\r\n", " ", " \t\r\n \r\n", "a", "a\r\n", "a\r\n\r\n", "a \r\n", "a\t b\r\n", " a\r\n", "\ta  b  \r\n\r\n \r\n",
		"a b c d e f g h i j k l m n o p q r s t u v w x y z\r\n", "two  blanks across the word limit  \r\n", "\r\n\r\nx\r\n\r\ny\r\n \t \r\nz",
		"12345678 ", "1234567 \r\n", "1234567  8", "123456 \t 8\r\n", "ü  ü \r\n", "a\nb\n", strings.Repeat("x", 5000) + "\r\n" + strings.Repeat(" ", 5000) + "y",
		strings.Repeat("\r\n", 5000) + "y", "DEL\x7f \x01 ctl \r\n",
	} {
		want := oracle(t, body)
		for _, piece := range []int{1, 2, 3, 7, 8, 9, 1 << 20} {
			if got := b64(scanAll(t, "From: a@b.example\r\n\r\n"+body, piece).BodyHash()); got != want {
				t.Errorf("body %.40q in pieces of %d: %s, want %s", body, piece, got, want)
			}
		}
	}
}

func TestBodyHashOfRFC6376(t *testing.T) {
	// The empty body's hash stands in RFC 6376, section 3.4.4.
	if got := b64(scanAll(t, "A: b\r\n\r\n", 64).BodyHash()); got != "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" {
		t.Error(got)
	}
}

func TestForm(t *testing.T) {
	long := strings.Repeat("x", 998)
	for _, c := range []struct {
		name, msg string
		head      int
		want      mail.BodyForm
		dotted    bool
	}{
		{"plain", "From: a\r\n\r\nhi\r\n", 11, mail.BodyForm{}, false},
		{"nothing", "", 0, mail.BodyForm{}, false},
		{"no header", "\r\nhi\r\n", 2, mail.BodyForm{}, false},
		{"no body", "From: a\r\n", 9, mail.BodyForm{}, false},
		{"eight bit body", "From: a\r\n\r\nhü\r\n", 11, mail.BodyForm{EightBit: true}, false},
		{"utf8 header", "From: ä\r\n\r\nhi\r\n", 12, mail.BodyForm{UTF8: true}, false},
		{"998", "From: a\r\n\r\n" + long + "\r\n", 11, mail.BodyForm{}, false},
		{"999", "From: a\r\n\r\n" + long + "x\r\n", 11, mail.BodyForm{Long: true}, false},
		{"999 at the end", "From: a\r\n\r\n" + long + "x", 11, mail.BodyForm{Long: true}, false},
		{"999 in the header", "From: " + long + "\r\n\r\nhi\r\n", 1008, mail.BodyForm{Long: true}, false},
		{"nul", "From: a\r\n\r\n\x00\r\n", 11, mail.BodyForm{Binary: true}, false},
		{"bare lf", "From: a\r\n\r\na\nb\r\n", 11, mail.BodyForm{Binary: true}, false},
		{"bare cr", "From: a\r\n\r\na\rb\r\n", 11, mail.BodyForm{Binary: true}, false},
		{"cr at the end", "From: a\r\n\r\na\r", 11, mail.BodyForm{Binary: true}, false},
		{"lf cr", "From: a\r\n\r\na\n\r", 11, mail.BodyForm{Binary: true}, false},
		{"signed", "From: a\r\nCONTENT-type:\r\n Multipart/Signed; boundary=x\r\n\r\nhi\r\n", 57, mail.BodyForm{Sealed: true}, false},
		{"encrypted", "Content-Type: multipart/encrypted\r\n\r\n", 37, mail.BodyForm{Sealed: true}, false},
		{"dot", "From: a\r\n\r\nhi\r\n.\r\n", 11, mail.BodyForm{}, true},
		{"dot first", "From: a\r\n\r\n.", 11, mail.BodyForm{}, true},
		{"dot within a line, and in the header", ".: a\r\n\r\na.b\r\n ..\r\nc.\r\n", 8, mail.BodyForm{}, false},
		{"dot after a lone lf", "From: a\r\n\r\na\n.", 11, mail.BodyForm{Binary: true}, true},
		{"mixed", "Content-Type: multipart/mixed; x=multipart/signed\r\n\r\n", 53, mail.BodyForm{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.Undotted = !c.dotted
			for _, piece := range []int{1, 3, 1000} {
				s := scanAll(t, c.msg, piece)
				if got := unhashed(t, c.msg, piece).Form(); got != c.want {
					t.Errorf("without the hash form %+v, want %+v", got, c.want)
				}
				if s.Form() != c.want {
					t.Errorf("form %+v, want %+v", s.Form(), c.want)
				}
				if s.HeaderSize() != c.head || string(s.Header()) != c.msg[:c.head] {
					t.Errorf("header %q, want %d octets", s.Header(), c.head)
				}
				if s.Size() != int64(len(c.msg)) {
					t.Errorf("size %d, want %d", s.Size(), len(c.msg))
				}
			}
		})
	}
}

// unhashed scans without the hash, by a scanner that was used before.
func unhashed(t testing.TB, msg string, piece int) *Scanner {
	t.Helper()
	s := scanAll(t, "From: x\r\n\r\nü\n\x00", 1)
	s.Reset()
	s.WithoutHash()
	return scanWith(t, s, msg, piece)
}

// TestHashAfterwards: what was left out on the way in is computed from what was
// kept, whatever stretches it is read in.
func TestHashAfterwards(t *testing.T) {
	for _, msg := range []string{"", "\r\n", "From: a\r\n", "From: a\r\n\r\n", "From: a\r\n\r\nhi  there \r\n\r\n", "\r\nhi\r\n", string(sample(80 << 10))} {
		want := scanAll(t, msg, 1000).BodyHash()
		s := unhashed(t, msg, 1000)
		if s.BodyHash() != [32]byte{} {
			t.Errorf("%.40q: a hash that was not asked for", msg)
		}
		for _, r := range []io.WriterTo{strings.NewReader(msg), inPieces{msg, 1}, inPieces{msg, 7}} {
			got, err := s.HashBody(r)
			if err != nil || got != want {
				t.Errorf("%.40q: %s, %v; want %s", msg, b64(got), err, b64(want))
			}
		}
		if s.Reset(); scanWith(t, s, msg, 1000).BodyHash() != want {
			t.Errorf("%.40q: Reset left something behind", msg)
		}
	}
	if _, err := New().HashBody(inPieces{}); err == nil {
		t.Error("a message that cannot be read has a hash")
	}
}

// inPieces is a text that is written in pieces; in pieces of none it fails.
type inPieces struct {
	text  string
	piece int
}

func (p inPieces) WriteTo(w io.Writer) (int64, error) {
	if p.piece == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	for rest := p.text; rest != ""; {
		n := min(p.piece, len(rest))
		if _, err := io.WriteString(w, rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return int64(len(p.text)), nil
}

func TestHeaderTooLarge(t *testing.T) {
	line := "X: " + strings.Repeat("y", 95) + "\r\n"
	for _, piece := range []int{100, 4096, 1 << 20} {
		s := New()
		msg := []byte(strings.Repeat(line, 2000))
		var err error
		for len(msg) > 0 && err == nil {
			n := min(piece, len(msg))
			_, err = s.Write(msg[:n])
			msg = msg[n:]
		}
		f := mail.AsFailure(err)
		if f == nil || f.Code != 552 || f.Reason != mail.ReasonTooLarge {
			t.Fatalf("pieces of %d: %v", piece, err)
		}
		if len(s.Header()) > header.MaxBytes+1 {
			t.Errorf("kept %d octets of header", len(s.Header()))
		}
		if _, again := s.Write([]byte("x")); again != err {
			t.Errorf("a second Write gave %v", again)
		}
		if s.Close() != err {
			t.Error("Close forgot the failure")
		}
	}
	exact := "X: " + strings.Repeat("y", header.MaxBytes-7) + "\r\n\r\n"
	if s := scanAll(t, exact+"body", 777); s.HeaderSize() != header.MaxBytes {
		t.Errorf("a header of exactly the limit: %d", s.HeaderSize())
	}
}

func TestResetAllocatesNothing(t *testing.T) {
	msg := sample(4 << 10)
	s := New()
	run := func() {
		s.Reset()
		s.Write(msg)
		s.Close()
	}
	run()
	first := s.BodyHash()
	// One string for the Content-Type lookup is all that may be left.
	if n := testing.AllocsPerRun(100, run); n > 1 {
		t.Errorf("%v allocations a message", n)
	}
	if s.BodyHash() != first {
		t.Error("Reset left something behind")
	}
}

func TestSkip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	alphabet := "ab  \t\r\n\x01\x1f !\xff\x80\x7f"
	for range 20000 {
		b := make([]byte, r.IntN(40))
		for i := range b {
			b[i] = "abcdefgh"[r.IntN(8)]
			if r.IntN(6) == 0 {
				b[i] = alphabet[r.IntN(len(alphabet))]
			}
		}
		want := len(b)
		for i, c := range b {
			if c < ' ' || c == ' ' && (i+1 == len(b) || b[i+1] <= ' ') {
				want = i
				break
			}
		}
		if got := skip(b, 0, new(uint64)); got != want {
			t.Fatalf("skip(%q) = %d, want %d", b, got, want)
		}
	}
}

func FuzzBodyHash(f *testing.F) {
	for _, s := range []string{"", " \r\n", "a  b\t\r\n\r\n", "x\r\n \r\n y \nz", "12345678 \t\r\nabc  "} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, body []byte, piece int) {
		// A lone CR, possible in binary bodies only, is read differently by every verifier.
		text := strings.ReplaceAll(strings.ReplaceAll(string(body), "\r\n", "\n"), "\r", "")
		text = strings.ReplaceAll(text, "\n", "\r\n")
		want := oracle(t, text)
		s := scanAll(t, "From: a@b.example\r\n\r\n"+text, min(max(piece, 1), 1<<16))
		if got := b64(s.BodyHash()); got != want {
			t.Fatalf("%q: %s, want %s", text, got, want)
		}
	})
}

// form is what Scanner.Form says of line ends and lengths, one octet after the
// other.
func form(msg string) (f mail.BodyForm) {
	head, ok := len(msg), false
	if strings.HasPrefix(msg, "\r\n") {
		head, ok = 2, true
	} else if i := strings.Index(msg, "\r\n\r\n"); i >= 0 {
		head, ok = i+4, true
	}
	f.UTF8 = strings.ContainsFunc(msg[:head], func(r rune) bool { return r >= 0x80 })
	f.Undotted = !strings.HasPrefix(msg[head:], ".") && !strings.Contains(msg[head:], "\n.")
	f.EightBit = ok && strings.ContainsFunc(msg[head:], func(r rune) bool { return r >= 0x80 })
	text := strings.ReplaceAll(msg, "\r\n", "")
	f.Binary = strings.ContainsAny(text, "\x00\r\n") || strings.Contains(msg, "\r\r\n")
	for line := range strings.SplitAfterSeq(msg, "\n") {
		f.Long = f.Long || len(strings.TrimSuffix(strings.TrimSuffix(line, "\r\n"), "\n")) > lineMost
	}
	return f
}

func FuzzForm(f *testing.F) {
	long := strings.Repeat("0123456789", 100)
	for _, s := range []string{"A: b\r\n\r\nc", "\r\nü", "A: ü", "A: b\r\n\r\nc\nd", "A: b\rc\r\n\r\n", "A: b\r\n\r\nc\x00", "\r\r\n", "A: b\r\n\r\n  \r\r\n \r",
		long, long[:998] + "\r", "A: b\r\n\r\n" + long[:998] + "\r\n", "A: b\r\n\r\n" + long[:999] + "\r\n", "A: b\r\n\r\n" + long[:998] + "  ", "A: b\r\n\r\n" + long[:997] + "\r\r\n"} {
		f.Add(s, 1)
		f.Add(s, 1000)
	}
	f.Fuzz(func(t *testing.T, msg string, piece int) {
		piece = min(max(piece, 1), 1<<16)
		s := scanAll(t, msg, piece)
		if got := unhashed(t, msg, piece).Form(); got != s.Form() {
			t.Fatalf("%.100q: without the hash %+v, with it %+v", msg, got, s.Form())
		}
		got, want := s.Form(), form(msg)
		got.Sealed = false
		if got != want {
			t.Fatalf("%.100q: %+v, want %+v", msg, got, want)
		}
		if n, _ := header.Find([]byte(msg)); string(s.Header()) != msg[:n] {
			t.Fatalf("%.100q: header %.100q", msg, s.Header())
		}
	})
}

// sample is a message of text and base64 lines, about n octets long.
func sample(n int) []byte {
	var b bytes.Buffer
	b.WriteString("From: Acme <a@acme.example>\r\nTo: b@dest.example\r\nSubject: hello\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n")
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "Line %06d of a body with words and blanks between, as letters have them.\r\n", i)
	}
	return b.Bytes()
}

func BenchmarkScan(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			msg := sample(size)
			s := New()
			b.SetBytes(int64(len(msg)))
			b.ReportAllocs()
			for b.Loop() {
				s.Reset()
				for p := msg; len(p) > 0; {
					n := min(32<<10, len(p))
					s.Write(p[:n])
					p = p[n:]
				}
				s.Close()
			}
		})
	}
}

func BenchmarkScanWithoutHash(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			msg := sample(size)
			s := New()
			b.SetBytes(int64(len(msg)))
			for b.Loop() {
				s.Reset()
				s.WithoutHash()
				s.Write(msg)
				s.Close()
			}
		})
	}
}

// TestFormOfAnyText compares what is seen with the hash, without it, and one octet
// after the other.
func TestFormOfAnyText(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	words := []string{"\r\n", "\r\n", "\r\n", "abc", ".\r\n", "\r\n.x", "a longer piece of text", "ü", " ", "\t ", ".", strings.Repeat("x", 490), strings.Repeat("y ", 250)}
	odd := []string{"\r", "\n", "\x00", "\r\r\n", "\n\r", "\r\n\n"}
	for range 3000 {
		var b strings.Builder
		b.WriteString([]string{"", "From: x\r\n\r\n"}[r.IntN(2)])
		for range r.IntN(12) {
			b.WriteString(words[r.IntN(len(words))])
			if r.IntN(12) == 0 {
				b.WriteString(odd[r.IntN(len(odd))])
			}
			b.WriteString("123456789"[:r.IntN(10)])
		}
		msg, want := b.String(), form(b.String())
		for _, piece := range []int{1, 1 + r.IntN(20), 1 + r.IntN(1200), 1 << 16} {
			if got := scanAll(t, msg, piece).Form(); got != want {
				t.Fatalf("%q in pieces of %d: %+v, want %+v", msg, piece, got, want)
			}
			if got := unhashed(t, msg, piece).Form(); got != want {
				t.Fatalf("%q in pieces of %d, without the hash: %+v, want %+v", msg, piece, got, want)
			}
		}
	}
}
