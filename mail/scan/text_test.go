package scan

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"strings"
	"testing"

	"behalf/mail/header"
)

// textsOf are those of a whole message.
func textsOf(msg string, most int) ([][]byte, bool) {
	n, _ := header.Find([]byte(msg))
	var t Text
	t.Type, _ = header.Lookup([]byte(msg[:n]), "Content-Type")
	t.Encoding, _ = header.Lookup([]byte(msg[:n]), "Content-Transfer-Encoding")
	t.Type = strings.TrimSpace(t.Type)
	return t.Texts([]byte(msg[n:]), most)
}

// texts of a message, with a bar between them, and "…" if they are not all.
func TestTexts(t *testing.T) {
	for _, c := range []struct{ name, msg, want string }{
		{"plain", "Subject: a\n\nhello\n", "hello\r\n"},
		{"empty", "Subject: a\n\n", ""},
		{"cut", "Subject: a\n\n" + strings.Repeat("x", 100), strings.Repeat("x", 64) + "…"},
		{"quoted-printable", "Content-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\na=\nb=3D=zz=C3=BC=", "ab==zz\u00fc="},
		{"quoted-printable, cut", "Content-Transfer-Encoding: quoted-printable\n\n" + strings.Repeat("=41", 100), strings.Repeat("A", 64) + "…"},
		{"base64, cut", "Content-Transfer-Encoding: Base64\n\n" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("y"), 300)), strings.Repeat("y", 64) + "…"},
		{"base64 in lines", "Content-Transfer-Encoding: base64 \n\naGVs\nbG8=\n", "hello"},
		{"not base64", "Content-Transfer-Encoding: base64\n\naGVs!!!!", "hel…"},
		{"base64 in alternative in mixed", "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\naGVsbG8=\n--b\nContent-Type: text/html\n\n<p>\n--b--\n--a--\n", "hello|<p>"},
		{"after a picture", "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: image/png\n\nPNG\n--a\nContent-Type: text/plain\n\nseen\n--a--\n", "seen"},
		{"the end is not at hand", "Content-Type: multipart/mixed; boundary=a\n\npreamble --a\n--a\n\nseen", "seen"},
		{"a boundary within a line", "Content-Type: multipart/mixed; boundary=a\n\n--a\n\nx --a y\n--a--", "x --a y"},
		{"a picture alone", "Content-Type: image/png\n\nPNG\n", ""},
		{"broken", "Content-Type: multipart/mixed; boundary=a\n\nno part", ""},
		{"no boundary", "Content-Type: multipart/mixed\n\n--\n\ntext", "…"},
		{"in itself", "Content-Type: multipart/mixed; boundary=a\n\n" + strings.Repeat("--a\nContent-Type: multipart/mixed; boundary=a\n\n", 500), "…"},
		{"after an attachment", "Content-Type: multipart/mixed; boundary=a\n\n--a\n\none\n--a\nContent-Type: application/pdf\n\n" + strings.Repeat("PDF ", 300) + "\n--a\nContent-Type: text/html\n\ntwo\n--a--", "one|two"},
		{"a message in it", "Content-Type: multipart/mixed; boundary=a\n\n--a\n\none\n--a\nContent-Type: message/rfc822\n\nSubject: b\n\ntwo\n--a--", "one…"},
		{"very many", "Content-Type: multipart/mixed; boundary=a\n" + strings.Repeat("\n--a\n\nx", 9), "x|x|x|x|x|x|x|x…"},
		{"unknown charset", "Content-Type: text/plain; charset=klingon\n\nqapla", "qapla"},
	} {
		list, all := textsOf(crlf(c.msg), 64)
		got := string(bytes.Join(list, []byte("|")))
		if !all {
			got += "…"
		}
		if got != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func FuzzTexts(f *testing.F) {
	f.Add("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b--\r\n")
	f.Add("Content-Transfer-Encoding: base64\r\n\r\naGVsbG8=")
	f.Fuzz(func(t *testing.T, msg string) {
		list, _ := textsOf(msg, 64)
		if text := bytes.Join(list, nil); len(text) > 64 || len(list) > textMost {
			t.Fatalf("%d octets in %d texts", len(text), len(list))
		}
	})
}

// Where the encoding is right, the standard library reads the same.
func FuzzQuotedPrintable(f *testing.F) {
	f.Add("a =3D b\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		var b bytes.Buffer
		w := quotedprintable.NewWriter(&b)
		io.WriteString(w, text)
		w.Close()
		want, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(b.Bytes())))
		if err != nil {
			t.Skip()
		}
		if got := fromQuotedPrintable(b.Bytes(), 1<<20); !bytes.Equal(got, want) {
			t.Errorf("%q: %q, want %q", b.Bytes(), got, want)
		}
	})
}

func BenchmarkTexts(b *testing.B) {
	var qp bytes.Buffer
	w := quotedprintable.NewWriter(&qp)
	io.WriteString(w, strings.Repeat("Dear customer, your order of the blü cover = 1 has been sent, and comes in 3 days. ", 60))
	w.Close()
	body := []byte(crlf("--b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n") + qp.String() + "\r\n--b--\r\n")
	b.ReportAllocs()
	for b.Loop() {
		Text{Type: `multipart/alternative; boundary="b"`}.Texts(body, 64<<10)
	}
}
