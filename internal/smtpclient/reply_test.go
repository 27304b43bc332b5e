package smtpclient

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"behalf/mail"
)

func read(s string) (Reply, error) {
	return readReply(bufio.NewReaderSize(strings.NewReader(s), maxReplyLine+1), nil)
}

func TestReadReply(t *testing.T) {
	for in, want := range map[string]Reply{
		"250 ok\r\n":                              {250, "250 ok"},
		"250\r\n":                                 {250, "250"},
		"250 \n":                                  {250, "250 "},
		"250-a\r\n250-b\r\n250 c\r\n":             {250, "250-a\n250-b\n250 c"},
		"550-5.1.1 no\r\n550\r\n":                 {550, "550-5.1.1 no\n550"},
		"220 a\x1b[2Jb\tc\r\n":                    {220, "220 a?[2Jb c"},
		"220 \xff grüße\r\n":                      {220, "220 ? grüße"},
		"250 a\r\n250 of the next command\r\n":    {250, "250 a"},
		"599 " + strings.Repeat("x", 2000) + "\n": {599, "599 " + strings.Repeat("x", 2000)},
	} {
		got, err := read(in)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{
		"hello\r\n", "25 ok\r\n", "2500 ok\r\n", "150 ok\r\n", "650 ok\r\n", "\r\n", "250_ok\r\n", "25a ok\r\n",
		"250-a\r\n251 b\r\n", "250 " + strings.Repeat("x", 2100) + "\r\n", strings.Repeat("250-a\r\n", 200),
	} {
		if _, err := read(in); !errors.Is(err, errProtocol) {
			t.Errorf("%.40q: %v, want a breach of protocol", in, err)
		}
	}
	for _, in := range []string{"", "250 ok", "250-a\r\n", "2"} {
		if _, err := read(in); !errors.Is(err, io.EOF) {
			t.Errorf("%q: %v, want EOF", in, err)
		}
	}
}

func TestReplyParts(t *testing.T) {
	r := Reply{550, "550-5.7.1 first\n550-5.7.1: second\n550 5.7.1"}
	if e := r.Enhanced(); e != (mail.Enhanced{5, 7, 1}) {
		t.Error(e)
	}
	if s := r.Text(); s != "first second" {
		t.Errorf("%q", s)
	}
	for raw, want := range map[string]mail.Enhanced{"550 4.1.1 x": {}, "550": {}, "550 5.1": {}, "550 5.1.1": {5, 1, 1}, "250 2.0.0 ok": {2, 0, 0}} {
		if got := (Reply{int(raw[0]-'0') * 100, raw}).Enhanced(); got != want {
			t.Errorf("%q: %v, want %v", raw, got, want)
		}
	}
}

func TestCaps(t *testing.T) {
	got := parseCaps(Reply{250, "250-mx.test hi\n250-pipelining\n250-Size 1000\n250-8bitmime\n250-smtputf8\n250-chunking\n250-binarymime\n250-dsn\n250-requiretls\n250-StartTLS\n250-limits RCPTMAX=7 MAILMAX=3\n250-auth=LOGIN\n250 auth plain Cram-MD5"})
	want := Caps{true, true, true, true, true, true, true, true, 1000, 7, []string{"LOGIN", "PLAIN", "CRAM-MD5"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	got = parseCaps(Reply{250, "250-mx PIPELINING\n250-BINARYMIME\n250-SIZE\n250-SIZE -1\n250 SIZE 99999999999999999999"})
	if !reflect.DeepEqual(got, Caps{}) {
		t.Errorf("%+v", got)
	}
}

func FuzzReadReply(f *testing.F) {
	f.Add("250 ok\r\n")
	f.Add("250-a\r\n250 b\r\n")
	f.Add("220 \x00\xff\r\n")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := read(s)
		if err != nil {
			return
		}
		if r.Code < 200 || r.Code > 599 || strings.ContainsAny(r.Raw, "\r\x00\x1b\t") || strings.Count(r.Raw, "\n") >= maxReplyLines {
			t.Errorf("%+v", r)
		}
		parseCaps(r)
		r.Text()
		r.Enhanced()
	})
}

// unstuff is what a server does with the content of DATA.
func unstuff(s string) string {
	var b strings.Builder
	for line := range strings.SplitAfterSeq(s, "\r\n") {
		b.WriteString(strings.TrimPrefix(line, "."))
	}
	return b.String()
}

func stuff(t *testing.T, s string, cut int) (string, error) {
	t.Helper()
	var out strings.Builder
	w := bufio.NewWriter(&out)
	d := &dotWriter{w: w}
	for len(s) > 0 {
		n := min(cut, len(s))
		if _, err := d.Write([]byte(s[:n])); err != nil {
			return "", err
		}
		s = s[n:]
	}
	err := d.end()
	w.Flush()
	return out.String(), err
}

func TestDots(t *testing.T) {
	for in, want := range map[string]string{
		"":                ".\r\n",
		"a":               "a\r\n.\r\n",
		"a\r\n":           "a\r\n.\r\n",
		".\r\n":           "..\r\n.\r\n",
		"..\r\n.a\r\nb.":  "...\r\n..a\r\nb.\r\n.\r\n",
		"a\r\n\r\n.\r\nb": "a\r\n\r\n..\r\nb\r\n.\r\n",
	} {
		for cut := 1; cut < 9; cut++ {
			if got, err := stuff(t, in, cut); err != nil || got != want {
				t.Errorf("%q by %d: %q, %v; want %q", in, cut, got, err, want)
			}
		}
	}
	for _, in := range []string{"a\nb", "\n", "a\rb", "\r", "a\r", "a\r\r\n", "\r\n\n.\r\n", "a\r\n.\n", "\n.\r\n", "a\r\n\r.\r\n"} {
		for cut := 1; cut < 9; cut++ {
			if got, err := stuff(t, in, cut); !errors.Is(err, errBareLine) {
				t.Errorf("%q by %d: %q, %v; want a refusal", in, cut, got, err)
			}
		}
	}
}

// TestUndotted: text known to need no change goes out as if it had been looked at,
// and is looked at where a line is open or a dot comes first after all.
func TestUndotted(t *testing.T) {
	for _, head := range []string{"", "A: b\r\n\r\n", "open", "open\r"} {
		for _, text := range []string{"", "a", "a\r\n", "\r\n", ".a\r\n", "a.\r\n b\r\n"} {
			want, wantErr := stuff(t, head+text, 100)
			var out strings.Builder
			w := bufio.NewWriter(&out)
			d := &dotWriter{w: w}
			d.Write([]byte(head))
			_, err := d.WriteUndotted([]byte(text))
			if err == nil {
				err = d.end()
			}
			w.Flush()
			if err != wantErr || err == nil && out.String() != want {
				t.Errorf("%q and %q: %q, %v; want %q, %v", head, text, out.String(), err, want, wantErr)
			}
		}
	}
}

// FuzzDots: what passes comes out as it went in, and ends once, at its end.
func FuzzDots(f *testing.F) {
	f.Add("a\r\n.b\r\n", 3)
	f.Add("\r\n.\r\n", 1)
	f.Fuzz(func(t *testing.T, s string, cut int) {
		if cut < 1 {
			return
		}
		got, err := stuff(t, s, cut)
		rest := strings.ReplaceAll(s, "\r\n", "")
		if bad := strings.ContainsAny(rest, "\r\n"); bad != (err != nil) {
			t.Fatalf("%q: %v, bare line ends: %v", s, err, bad)
		}
		if err != nil {
			return
		}
		body, ok := strings.CutSuffix(got, ".\r\n")
		if !ok || body != "" && !strings.HasSuffix(body, "\r\n") || strings.HasPrefix(body, ".\r\n") || strings.Contains(body, "\r\n.\r\n") {
			t.Fatalf("%q became %q", s, got)
		}
		want := s
		if want != "" && !strings.HasSuffix(want, "\r\n") {
			want += "\r\n"
		}
		if unstuff(body) != want {
			t.Errorf("%q came out as %q", s, unstuff(body))
		}
	})
}

func TestParameters(t *testing.T) {
	for in, want := range map[string]string{"plain@a.test": "plain@a.test", "a+b=c d": "a+2Bb+3Dc+20d", "ü": "+C3+BC"} {
		if got := xtext(in); got != want {
			t.Errorf("xtext(%q) = %q", in, got)
		}
	}
	for _, c := range []struct{ orcpt, to, want string }{
		{"", "a+b@c.test", "rfc822;a+2Bb@c.test"},
		{"", "ü@c.test", `utf-8;\x{FC}@c.test`},
		{"rfc822;x y@c.test", "a@c.test", "rfc822;x+20y@c.test"},
		{`utf-8;ö\@c.test`, "a@c.test", `utf-8;\x{F6}\x{5C}@c.test`},
		{"x=1;y", "a@c.test", "x+3D1;y"},
	} {
		to, err := mail.ParseAddress(c.to)
		if err != nil {
			t.Fatal(err)
		}
		if got := originalRcpt(&Rcpt{To: to, ORcpt: c.orcpt}); got != c.want {
			t.Errorf("%q, %q: %q, want %q", c.orcpt, c.to, got, c.want)
		}
	}
}

func BenchmarkDots(b *testing.B) {
	text := bytes.Repeat([]byte("a line of seventy octets or so, of which most messages have very many\r\n"), 64<<10/71)
	w := bufio.NewWriterSize(io.Discard, 64<<10)
	for name, write := range map[string]func(*dotWriter, []byte) (int, error){"Write": (*dotWriter).Write, "WriteUndotted": (*dotWriter).WriteUndotted} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				d := dotWriter{w: w}
				if _, err := write(&d, text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
