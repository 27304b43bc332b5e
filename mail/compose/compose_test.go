package compose

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-message"

	"behalf/mail"
	"behalf/mail/header"
)

var update = flag.Bool("update", false, "rewrite the .want files")

func box(name, addr string) Mailbox {
	a, err := mail.ParseAddress(addr)
	if err != nil {
		panic(err)
	}
	return Mailbox{Name: name, Address: a}
}

func base() Message {
	return Message{From: box("Acme Support", "support@acme.example"), To: []Mailbox{box("", "b@dest.example")}, Subject: "Hello", Text: "Hi.\n",
		Date: time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC), MessageID: "<1@acme.example>", Boundary: "seed"}
}

func file(name, typ, content string) Attachment {
	return Attachment{Filename: name, ContentType: typ, Content: strings.NewReader(content)}
}

func TestFiles(t *testing.T) {
	cases := map[string]func(m *Message){
		"01-text": func(m *Message) {},
		"02-html": func(m *Message) { m.Text, m.HTML = "", "<p>Hi</p>" },
		"03-both": func(m *Message) { m.HTML = "<p>Hi</p>" },
		"04-everything": func(m *Message) {
			m.HTML = `<p>Hi <img src="cid:logo@acme"></p>`
			in := file("logo.png", "image/png", "\x89PNG")
			in.Inline, in.ContentID = true, "logo@acme"
			m.Attachments = []Attachment{file("a.pdf", "application/pdf", strings.Repeat("pdf", 100)), in, file("Übersicht.csv", "text/csv; charset=iso-8859-1", "a;\xfc")}
		},
		"05-inline-without-html": func(m *Message) { a := file("x.txt", "", "x"); a.Inline = true; m.Attachments = []Attachment{a} },
		"06-names": func(m *Message) {
			s := box("", "sender@acme.example")
			m.Sender = &s
			m.From.Name = "Jürgen, Acme"
			m.Cc = []Mailbox{box("Bee, Ann", "ann@dest.example"), box("日本", "j@dest.example")}
			m.Bcc = []Mailbox{box("Secret", "secret@dest.example")}
			m.ReplyTo = []Mailbox{box("", "reply@acme.example")}
			m.Subject = "Grüße an alle, die einen recht langen Betreff lesen wollen, der umbrochen werden muss"
			m.Headers = []Field{{"X-Ticket", "42"}, {"List-Unsubscribe", "<https://acme.example/u/1>"}}
		},
		"07-bcc-only":  func(m *Message) { m.To, m.Bcc = nil, m.To },
		"08-utf8-text": func(m *Message) { m.Text = "Grüße und so weiter  \n.\nFrom here\r\nmore\rend" },
		"09-cyrillic":  func(m *Message) { m.Text = "Привет, мир" },
		"10-empty":     func(m *Message) { m.Text, m.Subject, m.MessageID, m.Date = "", "", "", time.Time{} },
		"11-html-inline": func(m *Message) {
			a := file("i.gif", "image/gif", "GIF")
			a.Inline, a.ContentID = true, "i"
			m.Text, m.HTML, m.Attachments = "", "<img src=cid:i>", []Attachment{a}
		},
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			m := base()
			change(&m)
			var b bytes.Buffer
			n, err := m.WriteTo(&b)
			if err != nil || n != int64(b.Len()) {
				t.Fatalf("%d of %d octets, %v", n, b.Len(), err)
			}
			checkForm(t, b.String())
			got := strings.ReplaceAll(b.String(), "\r\n", "\n")
			want := filepath.Join("testdata", name+".want")
			if *update {
				os.MkdirAll("testdata", 0o755)
				if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			w, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(w) {
				t.Errorf("got\n%s\nwant\n%s", got, w)
			}
		})
	}
}

// checkForm checks what any hop asks: CRLF, ASCII, short lines, a sound header.
func checkForm(t testing.TB, msg string) {
	t.Helper()
	if strings.Count(msg, "\n") != strings.Count(msg, "\r\n") || strings.Count(msg, "\r") != strings.Count(msg, "\r\n") {
		t.Error("a lone CR or LF")
	}
	if !strings.HasSuffix(msg, "\r\n") {
		t.Error("no line end at the end")
	}
	for line := range strings.SplitSeq(msg, "\r\n") {
		if len(line) > 998 {
			t.Errorf("a line of %d octets", len(line))
		}
	}
	h, err := header.Parse([]byte(msg))
	if err != nil {
		t.Fatalf("%v in %q", err, msg)
	}
	for _, name := range []string{"From", "MIME-Version", "Content-Type"} {
		if h.Count(name) != 1 {
			t.Errorf("%d %s fields", h.Count(name), name)
		}
	}
	if h.Has("Bcc") {
		t.Error("Bcc was written")
	}
}

func TestRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Message)
		says   string
	}{
		"no from":            {func(m *Message) { m.From = Mailbox{} }, "from"},
		"nobody":             {func(m *Message) { m.To = nil }, "to:"},
		"subject line end":   {func(m *Message) { m.Subject = "a\r\nBcc: x@y" }, "subject"},
		"subject LF":         {func(m *Message) { m.Subject = "a\nb" }, "subject"},
		"subject not UTF-8":  {func(m *Message) { m.Subject = "\xff" }, "subject"},
		"subject too long":   {func(m *Message) { m.Subject = strings.Repeat("x", 3000) }, "subject"},
		"name line end":      {func(m *Message) { m.From.Name = "a\nBcc: x" }, "from"},
		"to name":            {func(m *Message) { m.To[0].Name = "a\x00" }, "to"},
		"header line end":    {func(m *Message) { m.Headers = []Field{{"X-A", "a\r\n b"}} }, "headers: X-A"},
		"header name":        {func(m *Message) { m.Headers = []Field{{"X A", "a"}} }, "headers"},
		"reserved":           {func(m *Message) { m.Headers = []Field{{"bcc", "a@b"}} }, "bcc"},
		"reserved arc":       {func(m *Message) { m.Headers = []Field{{"ARC-Seal", "x"}} }, "ARC-Seal"},
		"message-id":         {func(m *Message) { m.MessageID = "1@a" }, "message_id"},
		"text not UTF-8":     {func(m *Message) { m.Text = "\xff" }, "UTF-8"},
		"file name":          {func(m *Message) { m.Attachments = []Attachment{file("a\r\nb", "", "")} }, "attachments[0].filename"},
		"content type":       {func(m *Message) { m.Attachments = []Attachment{file("a", "nonsense", "")} }, "content_type"},
		"container":          {func(m *Message) { m.Attachments = []Attachment{file("a", "multipart/mixed; boundary=x", "")} }, "content_type"},
		"no content":         {func(m *Message) { m.Attachments = []Attachment{{Filename: "a"}} }, "content"},
		"content id":         {func(m *Message) { a := file("a", "", ""); a.ContentID = "a>b"; m.Attachments = []Attachment{a} }, "content_id"},
		"too many files":     {func(m *Message) { m.Attachments = make([]Attachment, MaxAttachments+1) }, "at most"},
		"address, no domain": {func(m *Message) { m.Cc = []Mailbox{{Address: mail.Address{Local: "postmaster"}}} }, "cc"},
	} {
		m := base()
		c.change(&m)
		var b bytes.Buffer
		_, err := m.WriteTo(&b)
		f, _ := err.(*mail.Failure)
		if f == nil || f.Code != 550 || !strings.Contains(f.Text, c.says) || b.Len() > 0 {
			t.Errorf("%s: %v, %d octets written", name, err, b.Len())
		}
	}
}

func TestRecipients(t *testing.T) {
	m := base()
	m.Cc = []Mailbox{box("", "c@dest.example"), box("x", "B@dest.example")}
	m.Bcc = []Mailbox{box("", "d@dest.example"), box("", "c@dest.example")}
	if got := fmt.Sprint(m.Recipients()); got != "[b@dest.example c@dest.example d@dest.example]" {
		t.Error(got)
	}
}

func TestRandomBoundariesDiffer(t *testing.T) {
	var out [2]string
	for i := range out {
		m := base()
		m.HTML, m.Boundary = "x", ""
		var b strings.Builder
		m.WriteTo(&b)
		out[i] = b.String()
	}
	if out[0] == out[1] {
		t.Error("two messages share their boundaries")
	}
}

func FuzzCompose(f *testing.F) {
	f.Add("Ann", "Hello", "text\n", "<p>html</p>", "a.txt", "X-A", "v", []byte("content"))
	f.Add("Jürgen\r\n", "Grüße =?x?q?y?=", "From x\r.\n--=_", "", "\xff", "Bcc", "a\n", []byte("\x00"))
	f.Add("", strings.Repeat("ä", 300), strings.Repeat("x", 2000), "", strings.Repeat("ü", 90), "X", strings.Repeat("y", 1500), []byte{})
	f.Fuzz(func(t *testing.T, name, subject, text, html, filename, field, value string, content []byte) {
		m := base()
		m.From.Name, m.Subject, m.Text, m.HTML = name, subject, text, html
		m.Headers = []Field{{field, value}}
		m.Attachments = []Attachment{{Filename: filename, Content: bytes.NewReader(content), Inline: len(content)%2 == 0, ContentID: "c"}}
		var b bytes.Buffer
		if _, err := m.WriteTo(&b); err != nil {
			if _, ok := err.(*mail.Failure); !ok {
				t.Fatal(err)
			}
			return
		}
		if strings.EqualFold(field, "date") || b.Len() > 1<<20 {
			return
		}
		checkForm(t, b.String())
		h, _ := header.Parse(b.Bytes())
		if got := header.DecodeText(h.Get("Subject")); got != strings.Trim(got, " \t") || strings.Trim(header.DecodeText(header.EncodeText(subject)), " \t") != got && !strings.ContainsAny(subject, " \t") {
			t.Fatalf("subject %q came back as %q", subject, got)
		}
		e, err := message.Read(&b)
		if err != nil {
			t.Fatal(err)
		}
		var last []byte
		e.Walk(func(_ []int, p *message.Entity, err error) error {
			if err != nil {
				t.Fatal(err)
			}
			if p.MultipartReader() == nil {
				last, err = io.ReadAll(p.Body)
			}
			return err
		})
		if !bytes.Equal(last, content) {
			t.Fatalf("the attachment came back as %q, want %q", last, content)
		}
	})
}
