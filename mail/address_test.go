package mail

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseAddress(t *testing.T) {
	label := strings.Repeat("d", 61)
	long := strings.Repeat("a", 64) + "@" + label + "." + label + "." + label + ".de" // 64 + 1 + 188
	for in, want := range map[string]Address{
		"a@b.example":                   {"a", "b.example"},
		"A.b+c@B.Example":               {"A.b+c", "b.example"},
		`"a b"@b.example`:               {"a b", "b.example"},
		`"a\"b\\c"@b.example`:           {`a"b\c`, "b.example"},
		`"plain"@b.example`:             {"plain", "b.example"},
		`"a@evil.example"@b.example`:    {"a@evil.example", "b.example"},
		`"a>b"@b.example`:               {"a>b", "b.example"},
		`""@b.example x`:                {},
		"jürgen@bücher.example":         {"jürgen", "xn--bcher-kva.example"},
		"a@xn--bcher-kva.example":       {"a", "xn--bcher-kva.example"},
		"a@[192.0.2.1]":                 {"a", "[192.0.2.1]"},
		"a@[IPv6:2001:DB8::1]":          {"a", "[IPv6:2001:db8::1]"},
		"a@[ipv6:::1]":                  {"a", "[IPv6:::1]"},
		"a@host":                        {"a", "host"},
		"a@_srv.b.example":              {"a", "_srv.b.example"},
		"!#$%&'*+-/=?^_`{|}~@b.example": {"!#$%&'*+-/=?^_`{|}~", "b.example"},
		long:                            {strings.Repeat("a", 64), long[65:]},
	} {
		a, err := ParseAddress(in)
		if want.IsZero() {
			if err == nil {
				t.Errorf("%q was taken as %v", in, a)
			}
			continue
		}
		if err != nil || a != want {
			t.Errorf("%q: %+v, %v; want %+v", in, a, err, want)
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	for _, in := range []string{
		"", "a", "@", "a@", "@b.example", "a@b@c.example", "a..b@c.example", ".a@c.example", "a.@c.example", "a b@c.example", "a@b c.example",
		"a@b..example", "a@.example", "a@b.example.", "a@-b.example", "a@b-.example", "a@b,c", "<a@b.example>", "a@b.example>", "a@b.example\r\n", "a\r\n@b.example",
		"a\x00@b.example", "a@b.example\x00", "\"a\x01\"@b.example", "\"a\\\x01\"@b.example", `"a@b.example`, `"a"b@c.example`, `""@b.example`, `"\`, "a@[192.0.2]", "a@[192.0.2.1",
		"a@[IPv6:192.0.2.1]", "a@[IPv6:fe80::1%eth0]", "a@[::1]", "a@[tag:x]", "a\xff@b.example", "\"a\xff\"@b.example", "a@\xff.example", "a@xn--\u00fc.example",
		strings.Repeat("a", 65) + "@b.example", "a@" + strings.Repeat("d", 64) + ".example", "a@" + strings.Repeat("d.", 127) + "dd",
		"a\u0085b@c.example\n",
	} {
		if a, err := ParseAddress(in); err == nil {
			t.Errorf("%q was taken as %+v", in, a)
		} else if !errors.Is(err, ErrAddress) || len(err.Error()) > 500 {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestParsePath(t *testing.T) {
	for in, want := range map[string]struct {
		a    Address
		rest string
	}{
		"<>":                                   {Address{}, ""},
		"<> SIZE=1":                            {Address{}, " SIZE=1"},
		"<a@b.example>":                        {Address{"a", "b.example"}, ""},
		"<a@b.example> BODY=8BITMIME":          {Address{"a", "b.example"}, " BODY=8BITMIME"},
		"<@r.example:a@b.example>":             {Address{"a", "b.example"}, ""},
		"<@r.example,@s.example:a@b.example>x": {Address{"a", "b.example"}, "x"},
		"<postmaster>":                         {Address{"postmaster", ""}, ""},
		"<PostMaster> X":                       {Address{"PostMaster", ""}, " X"},
		"<postmaster@b.example>":               {Address{"postmaster", "b.example"}, ""},
		`<"a>b"@c.example>`:                    {Address{"a>b", "c.example"}, ""},
		`<"a@b"@c.example> D`:                  {Address{"a@b", "c.example"}, " D"},
	} {
		a, rest, err := ParsePath(in)
		if err != nil || a != want.a || rest != want.rest {
			t.Errorf("%q: %+v, %q, %v", in, a, rest, err)
		}
	}
	for _, in := range []string{"", "a@b.example", "<", "<a@b.example", "<a>", "<a@b.example x>", "< a@b.example>", "<@r.example a@b.example>", "<@r.example,s.example:a@b.example>",
		"<@:a@b.example>", "<@r.example:>", "<postmasterx>", "<postmaster", "<<a@b.example>>", "<a@b.example\r\nRCPT TO:<c@d>>", "<\r\n>"} {
		if a, _, err := ParsePath(in); err == nil {
			t.Errorf("%q was taken as %+v", in, a)
		}
	}
}

// TestBadPathIsQuotedWithoutItsBracket: the sentence shows the address, not the
// rest of the command.
func TestBadPathIsQuotedWithoutItsBracket(t *testing.T) {
	for in, want := range map[string]string{
		"<foo>":                  `"foo"`,
		"<foo> SIZE=10":          `"foo"`,
		"<a..b@c.example> X":     `"a..b@c.example"`,
		"<a@b_.-example>":        `"b_.-example"`,
		`<"a>b"> BODY=8BITMIME`:  `"\"a>b\""`,
		`<"a\">b"@-c.example> X`: `"-c.example"`,
		`<a"b@c.example> X`:      `"a\"b@c.example"`,
		"foo> X":                 `"foo> X"`,
		"<a@b.example":           `"<a@b.example"`,
	} {
		if _, _, err := ParsePath(in); err == nil || !strings.Contains(err.Error(), " "+want+": ") {
			t.Errorf("%q: %v, want it to quote %s", in, err, want)
		}
	}
}

func TestAddressForms(t *testing.T) {
	for _, c := range []struct {
		a            Address
		s, path, key string
		ascii        bool
	}{
		{Address{}, "", "<>", "", true},
		{Address{"a", "b.example"}, "a@b.example", "<a@b.example>", "a@b.example", true},
		{Address{"A b", "b.example"}, `"A b"@b.example`, `<"A b"@b.example>`, "a b@b.example", true},
		{Address{`a"\`, "b.example"}, `"a\"\\"@b.example`, `<"a\"\\"@b.example>`, `a"\@b.example`, true},
		{Address{"postmaster", ""}, "postmaster", "<postmaster>", "postmaster@", true},
		{Address{"Jürgen", "b.example"}, "Jürgen@b.example", "<Jürgen@b.example>", "jürgen@b.example", false},
	} {
		if c.a.String() != c.s || c.a.Path() != c.path || string(c.a.AppendPath(nil)) != c.path || c.a.Key() != c.key || c.a.ASCII() != c.ascii {
			t.Errorf("%+v: %s %s %s %v", c.a, c.a, c.a.Path(), c.a.Key(), c.a.ASCII())
		}
	}
	if !(Address{"A", "b.example"}).Equal(Address{"a", "b.example"}) || (Address{"a", "b.example"}).Equal(Address{"a", "c.example"}) {
		t.Error("Equal")
	}
}

func TestAddressJSON(t *testing.T) {
	for _, a := range []Address{{}, {"a", "b.example"}, {"a b", "[192.0.2.1]"}} {
		b, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var got Address
		if err := json.Unmarshal(b, &got); err != nil || got != a {
			t.Errorf("%s: %+v, %v", b, got, err)
		}
	}
	got := Address{"kept", "b.example"}
	if err := got.UnmarshalText([]byte("bad")); err == nil || got.Local != "kept" {
		t.Errorf("%+v, %v", got, err)
	}
}

// safe is what makes an address fit for an SMTP command: no control character,
// and its written form reads as itself.
func safe(t *testing.T, in string, a Address) {
	t.Helper()
	for i := range len(a.Local) {
		if a.Local[i] < ' ' || a.Local[i] == 0x7f {
			t.Fatalf("%q: %+v holds a control character", in, a)
		}
	}
	if string(a.AppendPath(nil)) != a.Path() {
		t.Fatalf("%q: %q is not %q", in, a.AppendPath(nil), a.Path())
	}
	if strings.ContainsAny(a.Path(), "\r\n\x00") || !utf8.ValidString(a.Path()) || len(a.String()) > MaxPath || len(a.Local) > MaxLocal {
		t.Fatalf("%q: path %q", in, a.Path())
	}
	again, rest, err := ParsePath(a.Path())
	if err != nil || rest != "" || again != a {
		t.Fatalf("%q: %q reads as %+v, %q, %v", in, a.Path(), again, rest, err)
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"a@b.example", `"a\ b"@b.example`, "ü@ü.example", "a@[IPv6:::1]", "a@[192.0.2.1]", `"\`, "a@K.example", "a@\u2488com"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := ParseAddress(s); err == nil {
			safe(t, s, a)
		} else if a != (Address{}) {
			t.Fatalf("%q: an address beside an error: %+v", s, a)
		}
	})
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"<>", "<a@b.example> SIZE=1", "<@r:a@b>", "<postmaster>", `<"a>b"@c>`, "<@r,@s:a@b>", "<a@b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, rest, err := ParsePath(s)
		if err != nil {
			return
		}
		if !strings.HasSuffix(s, rest) || len(rest) >= len(s) {
			t.Fatalf("%q: rest %q", s, rest)
		}
		safe(t, s, a)
	})
}

// What is appended is what the key is, for the null path too.
func TestAddressAppendKey(t *testing.T) {
	for _, a := range []Address{{}, {Local: "Ann.B", Domain: "one.test"}, {Local: "ÄNN", Domain: "one.test"}, {Local: "postmaster"}} {
		if got, want := string(a.AppendKey([]byte("k "))), "k "+a.Key(); got != want {
			t.Errorf("%+v: %q, want %q", a, got, want)
		}
	}
}
