// Package compose builds a message (RFC 5322, MIME) from its parts: what the
// HTTP API, notices and templates send. The output is ASCII only, with lines
// within 76 octets in bodies, so that every hop carries it as it is; only an
// address outside ASCII makes it ask for SMTPUTF8. Nothing given can begin a
// header field of its own, and Bcc is never written.
package compose

import (
	"fmt"
	"io"
	"mime"
	"strings"
	"time"
	"unicode/utf8"

	"behalf/mail"
	"behalf/mail/header"
)

// Bounds of what may be composed.
const (
	MaxAttachments = 500
	MaxFields      = 200
)

// Mailbox is an address and the name shown for it.
type Mailbox = header.Mailbox

// Field is a header field that the caller adds.
type Field struct{ Name, Value string }

// Attachment is a file. Content is read once, as the message is written.
type Attachment struct {
	Filename    string
	ContentType string // "": application/octet-stream
	Content     io.Reader
	ContentID   string // without brackets; what HTML refers to as cid:
	Inline      bool   // shown within the HTML, not listed
}

// Message is what shall be said. Its zero fields are left out.
type Message struct {
	From        Mailbox
	Sender      *Mailbox
	To, Cc, Bcc []Mailbox // Bcc is for the envelope only
	ReplyTo     []Mailbox
	Subject     string
	Text, HTML  string
	Headers     []Field
	Attachments []Attachment
	Date        time.Time
	MessageID   string // with brackets
	Boundary    string // seed: the same seed gives the same boundaries; "": random
}

// reserved fields are made here or belong to the relay.
var reserved = map[string]bool{
	"from": true, "sender": true, "to": true, "cc": true, "bcc": true, "reply-to": true, "subject": true, "date": true, "message-id": true,
	"mime-version": true, "content-type": true, "content-transfer-encoding": true, "content-disposition": true, "content-id": true,
	"received": true, "return-path": true, "dkim-signature": true, "authentication-results": true,
	"resent-from": true, "resent-sender": true, "resent-bcc": true, "x-originating-ip": true,
}

// Reserved reports whether callers may not give a field of that name.
func Reserved(name string) bool {
	name = strings.ToLower(name)
	return reserved[name] || strings.HasPrefix(name, "arc-")
}

func bad(format string, args ...any) *mail.Failure {
	return mail.Fail(550, mail.Enhanced{5, 6, 0}, mail.OfMessage, mail.ReasonContent, format, args...)
}

// Check says what keeps the message from being composed; the error is a
// [*mail.Failure] that names the part.
func (m *Message) Check() error {
	if m.From.Address.IsZero() {
		return bad("from: give an address")
	}
	if len(m.To)+len(m.Cc)+len(m.Bcc) == 0 {
		return bad("to: give at least one recipient in to, cc or bcc")
	}
	if len(m.Attachments) > MaxAttachments || len(m.Headers) > MaxFields {
		return bad("at most %d attachments and %d headers", MaxAttachments, MaxFields)
	}
	for _, l := range []struct {
		what string
		list []Mailbox
	}{{"from", []Mailbox{m.From}}, {"to", m.To}, {"cc", m.Cc}, {"bcc", m.Bcc}, {"reply_to", m.ReplyTo}} {
		for _, b := range l.list {
			if err := checkText(l.what, b.Name, 500); err != nil {
				return err
			}
			if b.Address.Domain == "" {
				return bad("%s: an address lacks its domain", l.what)
			}
		}
	}
	if err := checkText("subject", m.Subject, 2000); err != nil {
		return err
	}
	if !utf8.ValidString(m.Text) || !utf8.ValidString(m.HTML) {
		return bad("text and html must be UTF-8")
	}
	if m.MessageID != "" && !header.ValidMessageID(m.MessageID) {
		return bad("message_id: %.60q is not <local@domain>", m.MessageID)
	}
	return m.checkRest()
}

func (m *Message) checkRest() error {
	for _, f := range m.Headers {
		if Reserved(f.Name) {
			return bad("headers: %s is set elsewhere and cannot be given here", f.Name)
		}
		if !header.ValidName(f.Name) || len(f.Name) > 100 {
			return bad("headers: %.60q is not a field name", f.Name)
		}
		if err := checkText("headers: "+f.Name, f.Value, 8000); err != nil {
			return err
		}
	}
	for i, a := range m.Attachments {
		what := fmt.Sprintf("attachments[%d]", i)
		if err := checkText(what+".filename", a.Filename, 255); err != nil {
			return err
		}
		if strings.ContainsAny(a.ContentID, "<> \t\r\n\x00\"") || len(a.ContentID) > 200 || !ascii(a.ContentID) {
			return bad("%s.content_id: %.60q is not an identifier", what, a.ContentID)
		}
		if a.ContentType != "" && !validType(a.ContentType) {
			return bad("%s.content_type: %.60q is not a media type of a file", what, a.ContentType)
		}
		if a.Content == nil {
			return bad("%s.content: nothing given", what)
		}
	}
	return nil
}

// checkText refuses control characters, and so line ends, in a header value.
func checkText(what, s string, most int) error {
	if len(s) > most {
		return bad("%s: longer than %d octets", what, most)
	}
	if !utf8.ValidString(s) {
		return bad("%s: not UTF-8", what)
	}
	if strings.IndexFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) >= 0 {
		return bad("%s: line ends and control characters cannot stand in a header", what)
	}
	return nil
}

func ascii(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

// validType takes a media type with parameters that a leaf may have.
func validType(s string) bool {
	media, params, err := mime.ParseMediaType(s)
	return err == nil && strings.Contains(media, "/") && !strings.HasPrefix(media, "multipart/") && media != "message/rfc822" &&
		mime.FormatMediaType(media, params) != ""
}

// Recipients are the addresses in To, Cc and Bcc, each once.
func (m *Message) Recipients() []mail.Address {
	var out []mail.Address
	seen := map[string]bool{}
	for _, list := range [][]Mailbox{m.To, m.Cc, m.Bcc} {
		for _, b := range list {
			if !seen[b.Address.Key()] {
				seen[b.Address.Key()] = true
				out = append(out, b.Address)
			}
		}
	}
	return out
}

// WriteTo checks the message and writes it with CRLF line ends. The attachments
// are read, so it can be called once.
func (m *Message) WriteTo(w io.Writer) (int64, error) {
	if err := m.Check(); err != nil {
		return 0, err
	}
	out := &counter{w: w}
	_, err := out.Write(m.header())
	if err == nil {
		c := composer{m: m, w: out}
		err = c.body()
	}
	return out.n, err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// header is the header without what MIME adds and without the empty line.
func (m *Message) header() []byte {
	var h []byte
	add := func(name, value string) {
		if value != "" {
			h = header.AppendField(h, name, value)
		}
	}
	if !m.Date.IsZero() {
		add("Date", header.FormatDate(m.Date))
	}
	add("From", formatList([]Mailbox{m.From}))
	if m.Sender != nil {
		add("Sender", formatList([]Mailbox{*m.Sender}))
	}
	add("Reply-To", formatList(m.ReplyTo))
	add("To", formatList(m.To))
	if len(m.To)+len(m.Cc) == 0 {
		add("To", "undisclosed-recipients:;")
	}
	add("Cc", formatList(m.Cc))
	add("Message-ID", m.MessageID)
	add("Subject", header.EncodeText(m.Subject))
	for _, f := range m.Headers {
		h = header.AppendField(h, f.Name, header.EncodeText(f.Value))
	}
	return header.AppendField(h, "MIME-Version", "1.0")
}

func formatList(list []Mailbox) string {
	var b strings.Builder
	for i, m := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(header.FormatMailbox(m.Name, m.Address))
	}
	return b.String()
}
