package mailbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"behalf/mail"
	"behalf/upstream/upstreamtest"
)

func TestConformance(t *testing.T) {
	upstreamtest.Run(t, func(t *testing.T) upstreamtest.Rig {
		dir := t.TempDir()
		return upstreamtest.Rig{Upstream: New(dir), Arrived: func() (as []upstreamtest.Arrival) {
			files, _ := filepath.Glob(filepath.Join(dir, "*", "*", "new", "*"))
			for _, name := range files {
				b, err := os.ReadFile(name)
				if err != nil {
					t.Error(err)
				}
				first, rest, _ := strings.Cut(string(b), "\r\n")
				second, data, _ := strings.Cut(rest, "\r\n")
				as = append(as, upstreamtest.Arrival{
					From: strings.Trim(strings.TrimPrefix(first, "Return-Path: "), "<>"),
					To:   strings.TrimPrefix(second, "Delivered-To: "), Data: data})
			}
			return as
		}}
	})
}

func TestNothingIsLeftInTmp(t *testing.T) {
	dir := t.TempDir()
	u := New(dir)
	upstreamtest.Deliver(t, u, t.Context(), upstreamtest.Job(&upstreamtest.Mail{Data: upstreamtest.Content, Cut: 40}, "1@b.test"))
	upstreamtest.Deliver(t, u, t.Context(), upstreamtest.Job(&upstreamtest.Mail{Data: upstreamtest.Content}, "1@b.test"))
	for sub, want := range map[string]int{"tmp": 0, "new": 1, "cur": 0} {
		files, err := os.ReadDir(filepath.Join(dir, "b.test", "1", sub))
		if err != nil || len(files) != want {
			t.Errorf("%s: %v, %v; want %d files", sub, files, err, want)
		}
	}
}

func TestEscape(t *testing.T) {
	seen := map[string]string{}
	for in, want := range map[string]string{
		"anna": "anna", "a.b+tag": "a.b+tag", "..": "%2E.", ".": "%2E", ".hidden": "%2Ehidden", "a/b": "a%2Fb",
		"../../etc/passwd": "%2E.%2F..%2Fetc%2Fpasswd", "a\x00b": "a%00b", "ü": "%C3%BC", "%2E": "%252%45"[:4] + "%45", "[127.0.0.1]": "%5B127.0.0.1%5D",
	} {
		got := escape(in)
		if in != "%2E" && got != want {
			t.Errorf("escape(%q) = %q, want %q", in, got, want)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q share %q", in, other, got)
		}
		seen[got] = in
	}
	long := escape(strings.Repeat("ü", 100))
	if len(long) > maxName || long == escape(strings.Repeat("ü", 99)+"ö") {
		t.Errorf("a long name: %q", long)
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("anna")
	f.Add("../x")
	f.Fuzz(func(t *testing.T, s string) {
		if s == "" {
			return
		}
		e := escape(s)
		if e == "" || len(e) > maxName || e[0] == '.' || strings.ContainsAny(e, "/\\\x00") || filepath.Base(e) != e {
			t.Errorf("escape(%q) = %q", s, e)
		}
	})
}

func TestFolderFoldsCase(t *testing.T) {
	u := New("d")
	a, b := mail.Address{Local: "Anna", Domain: "b.test"}, mail.Address{Local: "anna", Domain: "b.test"}
	if u.Folder(a) != u.Folder(b) {
		t.Error(u.Folder(a), u.Folder(b))
	}
	if got := u.Folder(mail.Address{Local: "postmaster"}); got != filepath.Join("d", "localhost", "postmaster") {
		t.Error(got)
	}
}
