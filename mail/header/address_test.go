package header

import (
	"runtime"
	"strings"
	"testing"
	"unicode"

	"behalf/mail"
)

func TestParseFrom(t *testing.T) {
	for in, want := range map[string]Mailbox{
		"a@b.example":                                            {"", mail.Address{Local: "a", Domain: "b.example"}},
		"<a@b.example>":                                          {"", mail.Address{Local: "a", Domain: "b.example"}},
		"Ann Bee <a@B.Example>":                                  {"Ann Bee", mail.Address{Local: "a", Domain: "b.example"}},
		`"Bee, Ann" <a@b.example>`:                               {"Bee, Ann", mail.Address{Local: "a", Domain: "b.example"}},
		`"a \"b\" \\c" <a@b.example>`:                            {`a "b" \c`, mail.Address{Local: "a", Domain: "b.example"}},
		"=?utf-8?q?J=C3=BCrgen?= <a@b.example>":                  {"Jürgen", mail.Address{Local: "a", Domain: "b.example"}},
		"=?utf-8?q?J=C3=BC?= =?iso-8859-1?q?r?= X <a@b.example>": {"Jür X", mail.Address{Local: "a", Domain: "b.example"}},
		"=?utf-8?q?x=0D=0ABcc=3A_y?= <a@b.example>":              {"x  Bcc: y", mail.Address{Local: "a", Domain: "b.example"}},
		"=?no-such-charset?q?x?= <a@b.example>":                  {"=?no-such-charset?q?x?=", mail.Address{Local: "a", Domain: "b.example"}},
		"Jürgen <a@b.example>":                                   {"Jürgen", mail.Address{Local: "a", Domain: "b.example"}},
		"jürgen@bücher.example":                                  {"", mail.Address{Local: "jürgen", Domain: "xn--bcher-kva.example"}},
		"a@b.example (Ann (the) Bee)":                            {"Ann (the) Bee", mail.Address{Local: "a", Domain: "b.example"}},
		"Ann(x) Bee (y) <a(z)@(w)b.example> (v)":                 {"Ann Bee", mail.Address{Local: "a", Domain: "b.example"}},
		`"a b"@b.example`:                                        {"", mail.Address{Local: "a b", Domain: "b.example"}},
		`"a@evil.example"@b.example`:                             {"", mail.Address{Local: "a@evil.example", Domain: "b.example"}},
		"John Q. Public <a@b.example>":                           {"John Q. Public", mail.Address{Local: "a", Domain: "b.example"}},
		"x\r\n <a@b.example>":                                    {"x", mail.Address{Local: "a", Domain: "b.example"}},
		"a@[192.0.2.1]":                                          {"", mail.Address{Local: "a", Domain: "[192.0.2.1]"}},
		`"x"y <a@b.example>`:                                     {"x y", mail.Address{Local: "a", Domain: "b.example"}},
	} {
		addr, name, err := ParseFrom(in)
		if err != nil || addr != want.Address || name != want.Name {
			t.Errorf("%q: %q %v, %v; want %q %v", in, name, addr, err, want.Name, want.Address)
		}
	}
	for _, in := range []string{
		"", " ", "Ann", "=?utf-8?q?x:_y?= <a@b.example>", "Ann <>", "<>", "a@", "@b.example", "a@b@c.example", "a@b.example, c@d.example", "a@b.example,", "Bee, Ann <a@b.example>",
		"group: a@b.example;", "group:;", "a@b.example x", "Ann <a@b.example> x", "Ann <a@b.example", "Ann a@b.example>", `"Ann <a@b.example>`,
		"Ann (x <a@b.example>", "a b@c.example", "a@b.example <c@d.example>", "<a@b.example> <c@d.example>", "Ann <@r.example:a@b.example>", "a@b_-.example",
		"a..b@c.example", strings.Repeat("a", 65) + "@b.example", "a@b.example\x00", "a\x01@b.example", `"a` + "\x01" + `"@b.example`,
	} {
		if addr, name, err := ParseFrom(in); err == nil {
			t.Errorf("%q was taken as %q %v", in, name, addr)
		}
	}
}

func TestParseAddressList(t *testing.T) {
	for in, want := range map[string]string{
		"":                                  "",
		"a@b.example":                       "a@b.example",
		"a@b.example,c@d.example":           "a@b.example|c@d.example",
		", a@b.example,, X <c@d.example> ,": "a@b.example|X <c@d.example>",
		"undisclosed-recipients:;":          "",
		"g: a@b.example, X <c@d.example>; , e@f.example": "a@b.example|X <c@d.example>|e@f.example",
		"bad, a@b.example":             "a@b.example|!",
		"a@b.example x, c@d.example":   "c@d.example|!",
		`"Bee, Ann" <a@b.example>, "x`: `"Bee, Ann" <a@b.example>|!`,
		"<a@b.example, c@d.example":    "c@d.example|!",
		"a@b.example; c@d.example":     "a@b.example|c@d.example",
		"(only a comment)":             "",
	} {
		list, err := ParseAddressList(in)
		var got []string
		for _, m := range list {
			got = append(got, m.String())
		}
		if err != nil {
			got = append(got, "!")
		}
		if s := strings.Join(got, "|"); s != want {
			t.Errorf("%q: %s (%v), want %s", in, s, err, want)
		}
	}
}

// A name of very many words takes memory, and so time, in proportion to its
// length.
func TestManyWords(t *testing.T) {
	const words = 1 << 15
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, name, err := ParseFrom(strings.Repeat("a ", words) + "<a@b.example>")
	runtime.ReadMemStats(&after)
	if err != nil || len(name) != 2*words-1 {
		t.Errorf("%d octets, %v", len(name), err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 1000*words {
		t.Errorf("it took %d octets", n)
	}
}

func BenchmarkParseFrom(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		ParseFrom("Billing <billing@sender.example>")
	}
}

func TestFormatMailbox(t *testing.T) {
	a := mail.Address{Local: "a", Domain: "b.example"}
	for name, want := range map[string]string{
		"":              "a@b.example",
		"Ann Bee":       "Ann Bee <a@b.example>",
		"Bee, Ann":      `"Bee, Ann" <a@b.example>`,
		`a "b" \`:       `"a \"b\" \\" <a@b.example>`,
		"x\r\nBcc: y":   `"x Bcc: y" <a@b.example>`,
		"Jürgen":        "=?utf-8?q?J=C3=BCrgen?= <a@b.example>",
		"日本":            "=?utf-8?b?5pel5pys?= <a@b.example>",
		"=?utf-8?q?x?=": "=?utf-8?b?PT91dGYtOD9xP3g/PQ==?= <a@b.example>",
		"\xff":          "=?utf-8?b?77+9?= <a@b.example>",
	} {
		if got := FormatMailbox(name, a); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
	if got := FormatMailbox("", mail.Address{Local: "a b", Domain: "c.example"}); got != `"a b"@c.example` {
		t.Error(got)
	}
}

// What FormatMailbox writes, folded or not, ParseFrom reads.
func FuzzFormatMailbox(f *testing.F) {
	for _, s := range []string{"Ann", "Bee, Ann", "Jürgen Ö.", "=?utf-8?q?x?=", "\xff\x00", `\"`, strings.Repeat("ä ", 200), strings.Repeat("x", 2000), "a  b", "日本語"} {
		f.Add(s, "local", "b.example")
	}
	f.Fuzz(func(t *testing.T, name, local, domain string) {
		addr, err := mail.ParseAddress(mail.Address{Local: local, Domain: domain}.String())
		if err != nil || len(name) > 4000 {
			return
		}
		s := FormatMailbox(name, addr)
		field := Fold("From", s)
		for line := range strings.SplitSeq(field, "\r\n") {
			if len(line) > 998 {
				t.Fatalf("a line of %d octets", len(line))
			}
		}
		for _, in := range []string{s, strings.TrimPrefix(field, "From: ")} {
			got, gotName, err := ParseFrom(in)
			if err != nil || got != addr {
				t.Fatalf("ParseFrom(%q) = %v, %v; want %v", in, got, err, addr)
			}
			if want := strings.Join(strings.Fields(printable(name)), " "); gotName != want {
				t.Fatalf("ParseFrom(%q) gives the name %q, want %q", in, gotName, want)
			}
		}
	})
}

func FuzzParseFrom(f *testing.F) {
	for _, s := range []string{"a@b.example", `"x" <a@b.example>`, "g: a@b.example;", "(c) a@b.example (d)", "=?utf-8?q?=0A?= <a@b.example>", `"\`, "a@[IPv6:::1]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, _ := ParseAddressList(s)
		addr, name, err := ParseFrom(s)
		if err != nil {
			return
		}
		if len(list) != 1 || list[0].Address != addr {
			t.Fatalf("ParseFrom(%q) = %v, ParseAddressList %v", s, addr, list)
		}
		if strings.IndexFunc(name+addr.Local+addr.Domain, unicode.IsControl) >= 0 && strings.IndexFunc(addr.Local, func(r rune) bool { return r >= 0x80 && r < 0xa0 }) < 0 {
			t.Fatalf("ParseFrom(%q) = %q %v holds a control character", s, name, addr)
		}
		if again, err := mail.ParseAddress(addr.String()); err != nil || again != addr {
			t.Fatalf("ParseFrom(%q) = %v, which reads as %v, %v", s, addr, again, err)
		}
	})
}
