package scan

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestFirstText(t *testing.T) {
	for _, c := range []struct{ name, msg, want string }{
		{"plain", "Subject: a\n\nhello\n", "hello\r\n"},
		{"empty", "Subject: a\n\n", ""},
		{"cut", "Subject: a\n\n" + strings.Repeat("x", 100), strings.Repeat("x", 64)},
		{"quoted-printable", "Content-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\na=\nb=3D", "ab="},
		{"base64 in alternative in mixed", "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\naGVsbG8=\n--b\nContent-Type: text/html\n\n<p>\n--b--\n--a--\n", "hello"},
		{"after a picture", "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: image/png\n\nPNG\n--a\nContent-Type: text/plain\n\nseen\n--a--\n", "seen"},
		{"a picture alone", "Content-Type: image/png\n\nPNG\n", ""},
		{"broken", "Content-Type: multipart/mixed; boundary=a\n\nno part", ""},
		{"unknown charset", "Content-Type: text/plain; charset=klingon\n\nqapla", "qapla"},
	} {
		got, err := FirstText(strings.NewReader(crlf(c.msg)), 64)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
	broken := errors.New("disk gone")
	if _, err := FirstText(io.MultiReader(strings.NewReader("A: b\r\n"), iotest.ErrReader(broken)), 64); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func FuzzFirstText(f *testing.F) {
	f.Add("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b--\r\n")
	f.Fuzz(func(t *testing.T, msg string) {
		if text, err := FirstText(strings.NewReader(msg), 64); err != nil || len(text) > 64 {
			t.Fatalf("%d octets, %v", len(text), err)
		}
	})
}
