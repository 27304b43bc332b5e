package header

import (
	"strings"
	"testing"
	"time"
)

func TestFold(t *testing.T) {
	word := strings.Repeat("w", 30)
	for _, c := range []struct{ name, value, want string }{
		{"A", "b", "A: b\r\n"},
		{"A", "", "A: \r\n"},
		{"A", word + " " + word + " " + word, "A: " + word + " " + word + "\r\n " + word + "\r\n"},
		{"A", strings.Repeat("w", 100), "A: " + strings.Repeat("w", 100) + "\r\n"},
		{"A", strings.Repeat("w", 100) + " x", "A: " + strings.Repeat("w", 100) + "\r\n x\r\n"},
		{"A", word + word + "  \t " + word, "A: " + word + word + "\r\n  \t " + word + "\r\n"},
		{"A", "b\r\n c", "A: b\r\n c\r\n"},
		{"A", "b\r\nC: d", "A: b  C: d\r\n"},
		{"A", "b\r\n \r\n c", "A: b   \r\n c\r\n"},
		{"A", "b\r\n", "A: b\r\n"},
	} {
		if got := Fold(c.name, c.value); got != c.want {
			t.Errorf("%q: %q, want %q", c.value, got, c.want)
		}
	}
}

func TestWrap(t *testing.T) {
	long := strings.Repeat("x", 2500)
	got := string(Wrap([]byte("A: b\r\nL: " + long + "\r\nC: d\r\n\r\n")))
	for line := range strings.SplitSeq(got, "\r\n") {
		if len(line) > lineMost {
			t.Errorf("a line of %d octets", len(line))
		}
	}
	h, err := Parse([]byte(got))
	if err != nil || strings.ReplaceAll(h.Get("L"), " ", "") != long || h.Get("C") != "d" || h.Count("A") != 1 {
		t.Errorf("%v, %q", err, got)
	}
	const same = "A: b\r\n c\r\n\r\n"
	if got := string(Wrap([]byte(same))); got != same {
		t.Errorf("%q", got)
	}
}

func FuzzFold(f *testing.F) {
	f.Add("a b\tc\r\n d")
	f.Add("\r\n\r\n \n\r x")
	f.Add(strings.Repeat("word ", 300))
	f.Fuzz(func(t *testing.T, v string) {
		if len(v) > 20000 {
			return
		}
		out := Fold("X", v)
		h, err := Parse([]byte(out))
		if err != nil || len(h.All()) != 1 || h.Size() != len(out) {
			t.Fatalf("Fold(%q) = %q: %v", v, out, err)
		}
		w := Wrap([]byte(out))
		if h, err := Parse(w); err != nil || len(h.All()) != 1 {
			t.Fatalf("Wrap(%q) = %q: %v", out, w, err)
		}
		for line := range strings.SplitSeq(string(w), "\r\n") {
			if len(line) > lineMost {
				t.Fatalf("a line of %d octets", len(line))
			}
		}
	})
}

func TestEncodeText(t *testing.T) {
	for in, want := range map[string]string{
		"":            "",
		"plain text":  "plain text",
		"Grüße":       "=?utf-8?b?R3LDvMOfZQ==?=",
		"=?x?q?y?=":   "=?utf-8?b?PT94P3E/eT89?=",
		"a\r\nBcc: x": "a  Bcc: x",
		"日本語":         "=?utf-8?b?5pel5pys6Kqe?=",
	} {
		if got := EncodeText(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func FuzzEncodeText(f *testing.F) {
	f.Add("Grüße an alle")
	f.Add(strings.Repeat("日本語", 100))
	f.Add("\xff\x00=?")
	f.Fuzz(func(t *testing.T, s string) {
		e := EncodeText(s)
		if !isASCII(e) {
			t.Fatalf("EncodeText(%q) = %q", s, e)
		}
		if got, want := DecodeText(e), printable(s); got != want {
			t.Fatalf("EncodeText(%q) = %q, which reads %q", s, e, got)
		}
		for word := range strings.SplitSeq(e, " ") {
			if strings.HasPrefix(word, "=?") && len(word) > 75 {
				t.Fatalf("an encoded word of %d octets", len(word))
			}
		}
	})
}

func TestValidMessageID(t *testing.T) {
	for s, want := range map[string]bool{"<a@b>": true, "<a.b$c@[192.0.2.1]>": true, "<ü@b>": true, "": false, "a@b": false, "<a>": false, "<@b>": false,
		"<a@>": false, "<a b@c>": false, "<a@b> <c@d>": false, "<<a@b>>": false, "<a\t@b>": false, "<" + strings.Repeat("x", 1000) + "@b>": false} {
		if ValidMessageID(s) != want {
			t.Errorf("%.40q: %v", s, !want)
		}
	}
}

func TestDates(t *testing.T) {
	at := time.Date(2026, 11, 3, 9, 0, 5, 0, time.FixedZone("", 3600))
	if s := FormatDate(at); s != "Tue, 03 Nov 2026 09:00:05 +0100" {
		t.Error(s)
	}
	for _, s := range []string{"Tue, 03 Nov 2026 09:00:05 +0100", "3 Nov 2026 09:00:05 +0100", "Tue, 3 Nov 2026 08:00:05 GMT (x)"} {
		if got, err := ParseDate(s); err != nil || !got.Equal(at) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "yesterday", "2026-11-03"} {
		if _, err := ParseDate(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

func TestContentType(t *testing.T) {
	for _, c := range []struct{ in, media, key, value string }{
		{"text/plain", "text/plain", "charset", ""},
		{"Text/HTML; Charset=UTF-8", "text/html", "charset", "UTF-8"},
		{`multipart/mixed; boundary="a;b\"c"`, "multipart/mixed", "boundary", `a;b"c`},
		{"a/b; name*0=x; name*1=y", "a/b", "name", "xy"},
		{"multipart/mixed; charset; boundary=x", "multipart/mixed", "boundary", "x"},
		{"multipart/mixed; boundary=a; boundary=b", "multipart/mixed", "boundary", "a"},
		{"multipart/mixed; boundary=a/b:c", "multipart/mixed", "boundary", "a/b:c"},
		{"multipart/mixed;\r\n\tboundary=x", "multipart/mixed", "boundary", "x"},
		{"", "", "x", ""},
	} {
		media, params := ContentType(c.in)
		if media != c.media || params[c.key] != c.value {
			t.Errorf("%q: %q %q", c.in, media, params)
		}
	}
}
