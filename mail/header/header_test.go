package header

import (
	"bytes"
	"strings"
	"testing"

	"behalf/mail"
)

func TestParse(t *testing.T) {
	const in = "From: a@b.example\r\nSubject: one\r\n\ttwo \r\nX-Empty:\r\nfrom:  second\r\n\r\nBody: no\r\n"
	h, err := Parse([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	var raw strings.Builder
	for _, f := range h.All() {
		if in[f.Start:f.End] != f.Raw {
			t.Errorf("%s: range %d-%d is %q, Raw %q", f.Name, f.Start, f.End, in[f.Start:f.End], f.Raw)
		}
		raw.WriteString(f.Raw)
	}
	if raw.String()+"\r\n" != in[:h.Size()] {
		t.Errorf("fields and empty line are not the header: %q", raw.String())
	}
	for name, want := range map[string]string{"subject": "one\ttwo", "FROM": "a@b.example", "x-empty": "", "Body": ""} {
		if got := h.Get(name); got != want {
			t.Errorf("Get(%s) = %q, want %q", name, got, want)
		}
	}
	if h.Count("From") != 2 || h.Fields("From")[1].Value() != "second" || h.Has("Body") || !h.Has("x-empty") {
		t.Errorf("From %v, Body %v", h.Fields("From"), h.Has("Body"))
	}
}

func TestParseEnds(t *testing.T) {
	for _, c := range []struct {
		in           string
		size, fields int
	}{
		{"", 0, 0}, {"\r\n", 2, 0}, {"\r\nFrom: body\r\n", 2, 0}, {"A: b", 4, 1}, {"A: b\r\n", 6, 1}, {"A: b\r\n\r\n", 8, 1},
		{"A: b\r\n c\r\nD: e\r\n", 16, 2}, {"A:\r\n\r\n", 6, 1}, {"A: b\r\n \r\nC: d\r\n\r\n", 17, 2},
	} {
		h, err := Parse([]byte(c.in))
		if err != nil || h.Size() != c.size || len(h.All()) != c.fields {
			t.Errorf("%q: size %d, %d fields, %v; want %d, %d", c.in, h.Size(), len(h.All()), err, c.size, c.fields)
		}
		if size, _ := Find([]byte(c.in)); size != c.size {
			t.Errorf("Find(%q) = %d, want %d", c.in, size, c.size)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		code int
		text string
	}{
		"continuation first": {" A: b\r\n\r\n", 554, "continuation"},
		"NUL":                {"A: b\x00c\r\n\r\n", 554, "NUL"},
		"bare CR":            {"A: b\rc\r\n\r\n", 554, "CR"},
		"bare LF":            {"A: b\nC: d\r\n\r\n", 554, "LF"},
		"LF first":           {"\nA: b\r\n\r\n", 554, "LF"},
		"LF LF":              {"A: b\n\nbody\r\n", 554, "LF"},
		"CR at the end":      {"A: b\r", 554, "CR"},
		"CR CR LF":           {"A: b\r\r\n\r\n", 554, "CR"},
		"no colon":           {"A: b\r\nhello\r\n\r\n", 554, "line 2"},
		"space before colon": {"A : b\r\n\r\n", 554, "line 1"},
		"space in name":      {"A b: c\r\n\r\n", 554, "line 1"},
		"8-bit name":         {"Ä: c\r\n\r\n", 554, "line 1"},
		"no name":            {": c\r\n\r\n", 554, "line 1"},
		"mbox From":          {"From a@b.example Mon Jan 1\r\nA: b\r\n\r\n", 554, "line 1"},
		"too many octets":    {strings.Repeat("X: "+strings.Repeat("y", 995)+"\r\n", 140) + "\r\n", 552, "128 KiB"},
		"too many lines":     {"A: b\r\n" + strings.Repeat(" c\r\n", MaxLines) + "\r\n", 554, "lines"},
		"too many fields":    {strings.Repeat("A: b\r\n", MaxFields+1) + "\r\n", 554, "fields"},
	} {
		_, err := Parse([]byte(c.in))
		f, _ := err.(*mail.Failure)
		if f == nil || f.Code != c.code || !strings.Contains(f.Text, c.text) || f.Scope != mail.OfMessage {
			t.Errorf("%s: %v, want %d … %s", name, err, c.code, c.text)
		}
	}
	for _, ok := range []string{strings.Repeat("A: b\r\n", MaxFields) + "\r\n", "A: b\r\n" + strings.Repeat(" c\r\n", MaxLines-2) + "\r\n"} {
		if _, err := Parse([]byte(ok)); err != nil {
			t.Errorf("just within the limits: %v", err)
		}
	}
}

func TestLookup(t *testing.T) {
	in := []byte("Content-Type-X: no\r\nContent-Type: a\r\n b\r\nContent-Type: c\r\n\r\nTo: body\r\n")
	if v, ok := Lookup(in, "content-type"); v != "a b" || !ok {
		t.Errorf("%q, %v", v, ok)
	}
	if v, ok := Lookup(in, "To"); ok {
		t.Errorf("found %q in the body", v)
	}
	if _, ok := Lookup(nil, "To"); ok {
		t.Error("found in nothing")
	}
}

const client = "Received: by x\r\nSubject: =?utf-8?q?=C3=BC?=\r\n more\r\nX-A: 1\r\nx-a: 2\r\nFrom: a@b.example\r\n\r\n"

func TestApply(t *testing.T) {
	rm, add, set, pre := mail.EditRemove, mail.EditAdd, mail.EditSet, mail.EditPrefix
	type e = mail.Edit
	for name, c := range map[string]struct {
		edits []e
		want  string
	}{
		"nothing":          {nil, client},
		"remove all":       {[]e{{Op: rm, Name: "X-A", Value: ""}}, strings.Replace(client, "X-A: 1\r\nx-a: 2\r\n", "", 1)},
		"remove absent":    {[]e{{Op: rm, Name: "X-B", Value: ""}}, client},
		"add in order":     {[]e{{Op: add, Name: "X-1", Value: "a"}, {Op: add, Name: "X-2", Value: "b"}}, "X-1: a\r\nX-2: b\r\n" + client},
		"add then remove":  {[]e{{Op: add, Name: "X-1", Value: "a"}, {Op: rm, Name: "x-1", Value: ""}}, client},
		"remove then add":  {[]e{{Op: rm, Name: "x-a", Value: ""}, {Op: add, Name: "X-A", Value: "9"}}, "X-A: 9\r\n" + strings.Replace(client, "X-A: 1\r\nx-a: 2\r\n", "", 1)},
		"set":              {[]e{{Op: set, Name: "x-A", Value: "9"}}, strings.Replace(client, "X-A: 1\r\nx-a: 2\r\n", "X-A: 9\r\n", 1)},
		"set absent":       {[]e{{Op: set, Name: "Reply-To", Value: "r@b.example"}}, "Reply-To: r@b.example\r\n" + client},
		"set twice":        {[]e{{Op: set, Name: "X-A", Value: "8"}, {Op: set, Name: "X-A", Value: "9"}}, strings.Replace(client, "X-A: 1\r\nx-a: 2\r\n", "X-A: 9\r\n", 1)},
		"remove then set":  {[]e{{Op: rm, Name: "X-A", Value: ""}, {Op: set, Name: "X-A", Value: "9"}}, "X-A: 9\r\n" + strings.Replace(client, "X-A: 1\r\nx-a: 2\r\n", "", 1)},
		"set then remove":  {[]e{{Op: set, Name: "X-A", Value: "9"}, {Op: rm, Name: "X-A", Value: ""}}, strings.Replace(client, "X-A: 1\r\nx-a: 2\r\n", "", 1)},
		"add then set":     {[]e{{Op: add, Name: "X-A", Value: "8"}, {Op: set, Name: "X-A", Value: "9"}}, "X-A: 9\r\n" + strings.Replace(client, "X-A: 1\r\nx-a: 2\r\n", "", 1)},
		"prefix":           {[]e{{Op: pre, Name: "Subject", Value: "[x] "}}, strings.Replace(client, "Subject: ", "Subject: [x] ", 1)},
		"prefix of word":   {[]e{{Op: pre, Name: "Subject", Value: "[x]"}}, strings.Replace(client, "Subject: ", "Subject: [x] ", 1)},
		"prefix twice":     {[]e{{Op: pre, Name: "Subject", Value: "b "}, {Op: pre, Name: "Subject", Value: "a "}}, strings.Replace(client, "Subject: ", "Subject: a b ", 1)},
		"prefix the first": {[]e{{Op: pre, Name: "X-A", Value: "0"}}, strings.Replace(client, "X-A: 1", "X-A: 01", 1)},
		"prefix absent":    {[]e{{Op: pre, Name: "Comments", Value: "x"}}, "Comments: x\r\n" + client},
		"set then prefix":  {[]e{{Op: set, Name: "X-A", Value: "9"}, {Op: pre, Name: "X-A", Value: "0"}}, strings.Replace(client, "X-A: 1\r\nx-a: 2\r\n", "X-A: 09\r\n", 1)},
		"no injection":     {[]e{{Op: add, Name: "X-1", Value: "a\r\nBcc: evil@x\r\n\r\nbody"}, {Op: add, Name: "X: 2\r\nBcc", Value: "b"}}, "X-1: a  Bcc: evil@x    body\r\n" + client},
		"folded value":     {[]e{{Op: add, Name: "X-1", Value: "a\r\n b"}}, "X-1: a\r\n b\r\n" + client},
	} {
		t.Run(name, func(t *testing.T) {
			in := []byte(client)
			if got := string(Apply(in, c.edits)); got != c.want {
				t.Errorf("got\n%q, want\n%q", got, c.want)
			}
			if string(in) != client {
				t.Error("the header given was changed")
			}
		})
	}
	for in, want := range map[string]string{"": "A: b\r\n", "\r\n": "A: b\r\n\r\n", "X: y\r\n": "A: b\r\nX: y\r\n"} {
		if got := string(Apply([]byte(in), []e{{Op: add, Name: "A", Value: "b"}})); got != want {
			t.Errorf("Apply(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCheckEdit(t *testing.T) {
	for _, c := range []struct {
		e  mail.Edit
		ok bool
	}{
		{mail.Edit{Op: mail.EditAdd, Name: "X-A", Value: "b\tc ü"}, true},
		{mail.Edit{Op: mail.EditAdd, Name: "X-A", Value: "b\r\n c"}, true},
		{mail.Edit{Op: mail.EditRemove, Name: "X-A"}, true},
		{mail.Edit{Op: mail.EditAdd, Name: "X-A", Value: "b\r\nC: d"}, false},
		{mail.Edit{Op: mail.EditAdd, Name: "X-A", Value: "b\r\n"}, false},
		{mail.Edit{Op: mail.EditAdd, Name: "X-A", Value: "b\nc"}, false},
		{mail.Edit{Op: mail.EditAdd, Name: "X-A", Value: "b\x00"}, false},
		{mail.Edit{Op: mail.EditAdd, Name: "X A", Value: "b"}, false},
		{mail.Edit{Op: mail.EditAdd, Name: "", Value: "b"}, false},
		{mail.Edit{Op: 0, Name: "X", Value: "b"}, false},
		{mail.Edit{Op: 9, Name: "X", Value: "b"}, false},
		{mail.Edit{Op: mail.EditAdd, Name: "X", Value: strings.Repeat("x", MaxBytes)}, false},
	} {
		if err := CheckEdit(c.e); (err == nil) != c.ok {
			t.Errorf("%+.60v: %v", c.e, err)
		}
	}
}

func TestDowngrade(t *testing.T) {
	for in, want := range map[string]string{
		"A: b\r\n\r\n":                                     "A: b\r\n\r\n",
		"Subject: Grüße\r\nX: y\r\n\r\n":                   "Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\nX: y\r\n\r\n",
		"From: Jürgen <j@b.example>\r\n":                   "From: =?utf-8?q?J=C3=BCrgen?= <j@b.example>\r\n",
		"To: \"Ä, B\" <a@b.example>, c@bücher.example\r\n": "To: =?utf-8?b?w4QsIEI=?= <a@b.example>, c@xn--bcher-kva.example\r\n",
		"Content-Type: text/plain; name=\"ü.txt\"\r\n":     "Content-Type: text/plain;\r\n name*=utf-8''%C3%BC.txt\r\n",
		"List-Unsubscribe: <https://x.example/ü>\r\n":      "List-Unsubscribe: <https://x.example/%C3%BC>\r\n",
		"Received: from ü by x\r\n":                        "Received: from ?? by x\r\n",
		"Subject: caf\xe9\r\n":                             "Subject: =?unknown-8bit?q?caf=E9?=\r\n",
		"Subject: =?iso-8859-1?q?=FC?= und ü\r\n":          "Subject: =?utf-8?b?w7wgdW5kIMO8?=\r\n",
		"Subject: a\r\n ü\r\n\r\n":                         "Subject: =?utf-8?q?a_=C3=BC?=\r\n\r\n",
	} {
		got, err := Downgrade([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"From: ü@b.example\r\n", "To: a@b.example, <ü@b.example>\r\n", "Message-ID: <ü@b>\r\n", "From: ü <a\r\n"} {
		_, err := Downgrade([]byte(in))
		f, _ := err.(*mail.Failure)
		if f == nil || f.Code != 553 || f.Enhanced != (mail.Enhanced{5, 6, 7}) || f.Reason != mail.ReasonCannotCarry || f.Scope != mail.OfMessage {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(client))
	f.Add([]byte("A: b\r\n \r\n"))
	f.Add([]byte("A:b\r\n\tc"))
	f.Add([]byte("\r\nx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := Parse(b)
		if err != nil {
			if _, ok := err.(*mail.Failure); !ok {
				t.Fatalf("not a Failure: %v", err)
			}
			return
		}
		at := 0
		for _, f := range h.All() {
			if f.Start != at || string(b[f.Start:f.End]) != f.Raw {
				t.Fatalf("field %q at %d-%d, expected to begin at %d", f.Raw, f.Start, f.End, at)
			}
			if strings.ContainsAny(f.Value(), "\r\n\x00") {
				t.Fatalf("value %q", f.Value())
			}
			at = f.End
		}
		if rest := string(b[at:h.Size()]); rest != "" && rest != "\r\n" {
			t.Fatalf("left over: %q", rest)
		}
	})
}

func FuzzApply(f *testing.F) {
	f.Add([]byte(client), uint8(1), "X-A", "v", uint8(3), "Subject", "a\r\n b")
	f.Add([]byte("A: b\r\n\r\n"), uint8(2), "A", "\r\n\r\nbody", uint8(4), "B", "\n.\n")
	f.Fuzz(func(t *testing.T, b []byte, op1 uint8, n1, v1 string, op2 uint8, n2, v2 string) {
		before, err := Parse(b)
		if err != nil || len(n1)+len(v1)+len(n2)+len(v2) > 1000 || before.Size() > MaxBytes/2 || len(before.All()) > 500 {
			return
		}
		edits := []mail.Edit{{Op: mail.EditOp(op1), Name: n1, Value: v1}, {Op: mail.EditOp(op2), Name: n2, Value: v2}}
		out := Apply(b[:before.Size()], edits)
		after, err := Parse(out)
		if err != nil {
			t.Fatalf("Apply(%q, %q) = %q does not parse: %v", b, edits, out, err)
		}
		if after.Size() != len(out) {
			t.Fatalf("Apply(%q, %q) = %q ends early", b, edits, out)
		}
		for _, f := range after.All() {
			if !before.Has(f.Name) && !strings.EqualFold(f.Name, n1) && !strings.EqualFold(f.Name, n2) {
				t.Fatalf("Apply(%q, %q) made a field %q", b, edits, f.Name)
			}
		}
		for _, f := range before.All() {
			if !strings.EqualFold(f.Name, n1) && !strings.EqualFold(f.Name, n2) && !strings.Contains(string(out), f.Raw) {
				t.Fatalf("field %q was changed: %q", f.Raw, out)
			}
		}
	})
}

func FuzzDowngrade(f *testing.F) {
	f.Add([]byte("Subject: Grüße\r\nTo: Ä <a@b.example>\r\n\r\n"))
	f.Add([]byte("Subject: \xff\xfe =?x?y?z?=\r\nContent-Type: a/b; c=\"\xff\"\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := Parse(b)
		if err != nil {
			return
		}
		out, err := Downgrade(b[:h.Size()])
		if err != nil {
			return
		}
		if NeedsUTF8(out) {
			t.Fatalf("%q is not ASCII", out)
		}
		after, err := Parse(Wrap(out))
		if err == nil && len(after.All()) != len(h.All()) {
			t.Fatalf("%q has %d fields, %q %d", b, len(h.All()), out, len(after.All()))
		}
	})
}

func TestNeedsUTF8WhereverItStands(t *testing.T) {
	for size := range 30 {
		b := bytes.Repeat([]byte{0x7f}, size)
		if NeedsUTF8(b) {
			t.Errorf("%d octets of ASCII", size)
		}
		for i := range b {
			b[i] = 0x80
			if !NeedsUTF8(b) {
				t.Errorf("octet %d of %d", i, size)
			}
			b[i] = 0x7f
		}
	}
}
