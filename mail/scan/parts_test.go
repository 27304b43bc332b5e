package scan

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func TestReadParts(t *testing.T) {
	for _, c := range []struct {
		name, msg string
		want      []Attachment
		hosts     []string
		count     int
		truncated bool
	}{
		{"plain", "From: a\n\nSee HTTPS://Shop.Example/x?y, http://b.example:8080. and ftp://no.example //no\n", nil,
			[]string{"b.example", "shop.example"}, 1, false},
		{"no header", "\nhi\n", nil, nil, 1, false},
		{"user part and IDN", "A: b\n\nhttp://good.example@evil.example/ http://bücher.example/ http://[2001:db8::1]/x\n", nil,
			[]string{"2001:db8::1", "evil.example", "xn--bcher-kva.example"}, 1, false},
		{"mixed", `Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/html
Content-Transfer-Encoding: quoted-printable

<a href=3D"https://sp=
lit.example/">x</a>
--b
Content-Type: application/pdf; name="=?utf-8?q?R=C3=A9sum=C3=A9.pdf?="
Content-Transfer-Encoding: base64

aGVsbG8=
--b
Content-Type: text/csv
Content-Disposition: attachment; filename*=utf-8''%e2%82%ac.csv

a,b
--b
Content-Type: message/rfc822

Subject: inner
Content-Type: multipart/mixed; boundary=c

--c
Content-Type: application/x-msdownload
Content-Disposition: attachment; filename=run.exe

MZ
--c--

--b--
`, []Attachment{{"Résumé.pdf", "application/pdf", 5}, {"€.csv", "text/csv", 3}, {"run.exe", "application/x-msdownload", 2}, {"", "message/rfc822", 170}},
			[]string{"split.example"}, 7, false},
		{"cut short", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nhttp://a.example/", nil, []string{"a.example"}, 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ReadParts(strings.NewReader(crlf(c.msg)))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.Attachments, c.want) {
				t.Errorf("attachments %+v, want %+v", got.Attachments, c.want)
			}
			if !slices.Equal(got.URLHosts, c.hosts) {
				t.Errorf("hosts %q, want %q", got.URLHosts, c.hosts)
			}
			if got.Count != c.count || got.Truncated != c.truncated {
				t.Errorf("count %d truncated %v, want %d %v", got.Count, got.Truncated, c.count, c.truncated)
			}
		})
	}
}

func TestReadPartsBounds(t *testing.T) {
	deep := ""
	for i := range 40 {
		deep += fmt.Sprintf("Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	p, err := ReadParts(strings.NewReader(deep))
	if err != nil || !p.Truncated || p.Count > maxDepth+2 {
		t.Errorf("deep: %+v, %v", p, err)
	}
	wide := "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", 3000) + "--b--\r\n"
	p, err = ReadParts(strings.NewReader(wide))
	if err != nil || !p.Truncated || p.Count > maxParts+1 {
		t.Errorf("wide: %d parts, truncated %v, %v", p.Count, p.Truncated, err)
	}
	var many strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&many, "http://h%d.example/\r\n", i)
	}
	p, err = ReadParts(strings.NewReader("A: b\r\n\r\n" + many.String()))
	if err != nil || !p.Truncated || len(p.URLHosts) != maxHosts {
		t.Errorf("links: %d hosts, truncated %v, %v", len(p.URLHosts), p.Truncated, err)
	}
}

// What a part says of itself has a bound: the end of a name tells its type.
func TestReadPartsClipsNames(t *testing.T) {
	var name strings.Builder
	for i := range 90 {
		fmt.Fprintf(&name, ";\r\n filename*%d*=%s", i, strings.Repeat("%C3%A9", 20))
	}
	msg := "Content-Type: application/" + strings.Repeat("x", 800) + "\r\nContent-Disposition: attachment" + name.String() + ";\r\n filename*90=.exe\r\n\r\nx"
	p, err := ReadParts(strings.NewReader(msg))
	if err != nil || len(p.Attachments) != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
	a := p.Attachments[0]
	if len(a.Filename) > maxName || len(a.Filename) < maxName-3 || !utf8.ValidString(a.Filename) || !strings.HasSuffix(a.Filename, "éé.exe") {
		t.Errorf("%d octets: %q", len(a.Filename), a.Filename)
	}
	if len(a.ContentType) > maxName {
		t.Errorf("%d octets of type", len(a.ContentType))
	}
}

func TestReadPartsLinkAcrossBuffers(t *testing.T) {
	for shift := range 40 {
		text := "A: b\r\n\r\n" + strings.Repeat("x", 32<<10-20-shift) + " http://across.example/path " + strings.Repeat("y", 40<<10)
		p, err := ReadParts(iotest.HalfReader(strings.NewReader(text)))
		if err != nil || !slices.Equal(p.URLHosts, []string{"across.example"}) {
			t.Fatalf("shift %d: %q, %v", shift, p.URLHosts, err)
		}
	}
}

func TestReadPartsReaderError(t *testing.T) {
	broken := errors.New("disk gone")
	_, err := ReadParts(io.MultiReader(strings.NewReader("A: b\r\n\r\ntext"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func FuzzReadParts(f *testing.F) {
	f.Add("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhttp://a/\r\n--b--\r\n")
	f.Add("Content-Transfer-Encoding: base64\r\n\r\n!!!")
	f.Fuzz(func(t *testing.T, msg string) {
		if _, err := ReadParts(strings.NewReader(msg)); err != nil {
			t.Fatalf("a string cannot fail to be read: %v", err)
		}
	})
}
