package render

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-message"

	"behalf/mail"
	"behalf/mail/header"
)

// leaves lists the content of every leaf of msg, decoded, in order, as another
// library reads it; ok is false if it cannot.
func leaves(msg string) (list []string, ok bool) {
	e, err := message.Read(strings.NewReader(msg))
	if e == nil || err != nil && !message.IsUnknownCharset(err) {
		return nil, false
	}
	return list, walkLeaves(e, &list) == nil
}

func walkLeaves(e *message.Entity, list *[]string) error {
	if typ := e.Header.Get("Content-Type"); typ != "" {
		if _, _, err := mime.ParseMediaType(typ); err != nil {
			return err // read differently by everyone
		}
	}
	if mr := e.MultipartReader(); mr != nil {
		for {
			p, err := mr.NextPart()
			if err == io.EOF {
				return nil
			}
			if p == nil || err != nil && !message.IsUnknownCharset(err) {
				return err
			}
			if err := walkLeaves(p, list); err != nil {
				return err
			}
		}
	}
	media, _ := header.ContentType(e.Header.Get("Content-Type"))
	if media == "message/rfc822" || media == "message/global" {
		inner, err := message.Read(e.Body)
		if inner == nil || err != nil && !message.IsUnknownCharset(err) {
			return err
		}
		return walkLeaves(inner, list)
	}
	b, err := io.ReadAll(e.Body)
	*list = append(*list, string(b))
	return err
}

// What a hop without any extension gets decodes to what was submitted.
func FuzzReencode(f *testing.F) {
	for _, s := range []string{
		"From: a\r\n\r\nhü\r\n",
		"Content-Type: text/html; charset=utf-8\r\n\r\n  trailing \t\r\n.\r\n--x\r\n\xc3\xbc=3D\r\n",
		"Content-Type: application/octet-stream\r\n\r\n\x00\x01\xff\n\r",
		"Content-Type: multipart/mixed; boundary=b\r\n\r\npre\r\n--b\r\n\r\n\xff\r\n--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\xff\r\n--b--\r\nepi\xfc\r\n",
		"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\n\xc3\xa4\r\n--b--\r\n",
		"Content-Transfer-Encoding: quoted-printable\r\n\r\na=C3=\r\n=BC \r\n" + strings.Repeat("x", 1200) + "\r\n",
		"Content-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("aGVsbG8=", 200) + "\r\n",
		"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: y\r\n\r\n\xff\r\n--b--",
		"Content-Type: multipart/a; boundary=b\r\n\r\n--b\r\nContent-Type: multipart/c; boundary=d\r\n\r\n--d\r\n\r\n\xfc\r\n--b\r\n\r\nx\xfc\r\n--b--\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		if len(msg) > 100_000 {
			return
		}
		if _, err := header.Parse(msg); err != nil {
			return
		}
		in := input(t, string(msg))
		d, err := New(in).For(t.Context(), Caps{})
		if err != nil {
			if mail.AsFailure(err).Reason != mail.ReasonCannotCarry {
				t.Fatalf("%q: %v", msg, err)
			}
			return
		}
		out := text(t, d)
		checkCarried(t, out, d, Caps{})
		if in.Message.Body == (mail.BodyForm{}) {
			return
		}
		if in.Message.Body.Binary || in.Message.Body.UTF8 || bytes.Contains(bytes.ToLower(msg), []byte("digest")) {
			return // the reader that compares changes lone line ends, and knows no digests
		}
		before, ok := leaves(string(msg))
		if !ok {
			return
		}
		after, ok := leaves(out)
		if !ok || !slices.Equal(before, after) {
			t.Fatalf("%q\nbecame\n%q\nbefore %q\nafter  %q", msg, out, before, after)
		}
	})
}

// binaryBody has every octet and every kind of line end.
func binaryBody() string {
	var b strings.Builder
	for i := range 256 {
		b.WriteByte(byte(i))
	}
	return b.String() + "\r\n\n\r\r\n" + strings.Repeat("y", 1500) + "\r"
}

func TestBinaryRoundTrip(t *testing.T) {
	for _, typ := range []string{"application/octet-stream", "text/plain; charset=utf-8"} {
		body := binaryBody()
		d, err := New(input(t, "Content-Type: "+typ+"\r\nContent-Transfer-Encoding: binary\r\n\r\n"+body)).For(t.Context(), Caps{EightBitMIME: true})
		if err != nil {
			t.Fatal(err)
		}
		e, err := message.Read(strings.NewReader(text(t, d)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(e.Body); err != nil || e.Header.Get("Content-Transfer-Encoding") != "base64" && !strings.HasPrefix(typ, "text/") ||
			!strings.HasPrefix(typ, "text/") && string(got) != body {
			t.Errorf("%s: %v, %q", typ, err, got)
		}
	}
}

func TestEncoders(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, c := range []struct {
		name     string
		coding   coding
		in, want string
	}{
		{"quoted", toQuoted, "a=b ü\r\n", "a=3Db =C3=BC\r\n"},
		{"quoted blanks", toQuoted, "a \r\nb\t\r\n c ", "a=20\r\nb=09\r\n c=20"},
		{"quoted lone ends", toQuoted, "a\rb\nc\r", "a=0Db=0Ac=0D"},
		{"quoted cr cr lf", toQuoted, "a\r\r\n", "a=0D\r\n"},
		{"quoted blank before cr", toQuoted, "a \rb", "a =0Db"},
		{"quoted line starts", toQuoted, "--b\r\n.\r\n", "=2D-b\r\n=2E\r\n"},
		{"quoted long", toQuoted, long, long[:75] + "=\r\n" + long[75:]},
		{"base64", toBase64, long, "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4\r\neHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eA=="},
		{"mended base64", mendBase64, "aGVs \xfc\r\n!bG8=\r\n", "aGVsbG8="},
		{"mended quoted", mendQuoted, "a=C3=bC\xfc =3D\r\n=\r\nx= \t\r\ny", "a=C3=BC=FC =3D\r\n=\r\nx=\r\ny"},
		{"mended stray", mendQuoted, "a=zz=4x =", "a=3Dzz=3D4x =3D"},
		{"mended blanks", mendQuoted, "a \r\nb", "a\r\nb"},
		{"scrubbed", scrubbed, "a\xfc\x00\rb\nc\r\n\r", "a???b?c\r\n?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, piece := range []int{1, 2, 1000} {
				var b bytes.Buffer
				out := bufio.NewWriter(&b)
				e := newEncoder(c.coding, out)
				for rest := c.in; rest != ""; {
					n := min(piece, len(rest))
					io.WriteString(e, rest[:n])
					rest = rest[n:]
				}
				e.Close()
				out.Flush()
				if b.String() != c.want {
					t.Errorf("%q in pieces of %d: %q, want %q", c.in, piece, b.String(), c.want)
				}
			}
		})
	}
}

func TestBounds(t *testing.T) {
	deep := "From: a\r\n"
	for i := range 40 {
		deep += fmt.Sprintf("Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	wide := "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", 2000) + "--b--\r\n"
	head := "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + strings.Repeat("X-A: "+strings.Repeat("y", 900)+"\r\n", 200) + "\r\n\r\n--b--\r\n"
	for name, msg := range map[string]string{"deep": deep, "wide": wide, "head": head} {
		if _, err := New(input(t, msg+"\xfc\r\n")).For(t.Context(), Caps{}); err == nil || mail.AsFailure(err).Enhanced != (mail.Enhanced{5, 6, 3}) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := New(input(t, msg+"\xfc\r\n")).For(t.Context(), Caps{EightBitMIME: true}); err != nil {
			t.Errorf("%s, to a hop that carries it: %v", name, err)
		}
	}
}
