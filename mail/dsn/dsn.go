// Package dsn writes delivery status notifications: a multipart/report (RFC
// 6522) with a text for people, the fields of RFC 3464 for programs, and the
// original message or its header. Where the original needs SMTPUTF8 the parts
// are of the kinds that RFC 6533 defines.
//
// Everything that came from a peer is cleaned before it is written, so that a
// server's answer can begin no field of the report.
package dsn

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"behalf/mail"
	"behalf/mail/header"
)

// Action is what became of a recipient (RFC 3464, section 2.3.3).
type Action string

// The actions.
const (
	Failed    Action = "failed"
	Delayed   Action = "delayed"
	Delivered Action = "delivered"
	Relayed   Action = "relayed" // to a server that makes no reports
	Expanded  Action = "expanded"
)

// Recipient is one recipient that a report tells of.
type Recipient struct {
	Address        mail.Address
	ORcpt          string // "type;address", as RCPT TO gave it
	Action         Action
	Failure        *mail.Failure // of failed and delayed
	Status         mail.Enhanced // zero: that of Failure, else 2.0.0
	Remote         string        // name of the host that answered
	Diagnostic     string        // its answer, verbatim; "": that of Failure
	Advice         string        // what to try; "": Explain(Failure), of failed
	LastAttempt    time.Time
	WillRetryUntil time.Time // of delayed
}

// Report is one notification, about recipients that need not share an action.
type Report struct {
	From         mail.Address // MAILER-DAEMON@…
	FromName     string       // default "Mail Delivery System"
	To           mail.Address
	MessageID    string // of the report, with brackets
	Date         time.Time
	ReportingMTA string // our host name
	EnvID        string // of MAIL FROM, decoded from xtext
	Arrival      time.Time
	Subject      string // of the original, decoded
	OriginalID   string // Message-ID of the original
	OriginalFrom mail.Address
	Recipients   []Recipient
	Header       []byte    // the original's header; nil: no third part
	Original     io.Reader // the whole original, for RET=FULL; nil: only the header
	UTF8         bool      // the original needs SMTPUTF8
	Boundary     string    // seed; default MessageID
}

// WriteTo writes the report with CRLF line ends. It needs 8BITMIME if Original
// does, SMTPUTF8 if UTF8 is set, and nothing otherwise. Original is read once.
func (r *Report) WriteTo(w io.Writer) (int64, error) {
	b := r.boundary()
	var buf bytes.Buffer
	r.head(&buf, b)
	r.human(&buf, b)
	r.machine(&buf, b)
	returned := r.returned(&buf, b)
	n, err := buf.WriteTo(w)
	if err != nil {
		return n, err
	}
	if returned {
		k, err := io.Copy(w, r.Original)
		n += k
		if err != nil {
			return n, fmt.Errorf("copy the original into the report: %w", err)
		}
	}
	k, err := io.WriteString(w, "\r\n--"+b+"--\r\n")
	return n + int64(k), err
}

func (r *Report) boundary() string {
	seed := r.Boundary
	if seed == "" {
		seed = r.MessageID
	}
	sum := sha256.Sum256([]byte("report " + seed))
	return "=_" + hex.EncodeToString(sum[:15])
}

// action is what the report as a whole tells: the gravest of its recipients'.
func (r *Report) action() Action {
	a := Delivered
	for _, c := range r.Recipients {
		switch {
		case c.Action == Failed:
			return Failed
		case c.Action == Delayed || a != Delayed && c.Action == Relayed:
			a = c.Action
		}
	}
	return a
}

func (r *Report) subject() string {
	s := map[Action]string{Failed: "Undelivered", Delayed: "Delayed", Delivered: "Delivered", Relayed: "Passed on"}[r.action()]
	if r.Subject != "" {
		return s + ": " + r.Subject
	}
	return s + ": your message"
}

func (r *Report) head(b *bytes.Buffer, boundary string) {
	field := func(name, value string) { b.Write(header.AppendField(b.AvailableBuffer(), name, value)) }
	name := r.FromName
	if name == "" {
		name = "Mail Delivery System"
	}
	field("Date", header.FormatDate(r.Date))
	field("From", header.FormatMailbox(name, r.From))
	field("To", r.To.String())
	field("Message-ID", r.MessageID)
	field("Subject", header.EncodeText(r.subject()))
	if header.ValidMessageID(r.OriginalID) && (r.UTF8 || !header.NeedsUTF8([]byte(r.OriginalID))) {
		field("In-Reply-To", r.OriginalID)
		field("References", r.OriginalID)
	}
	field("Auto-Submitted", "auto-replied")
	field("MIME-Version", "1.0")
	b.WriteString("Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"" + boundary + "\"\r\n")
	if r.Original != nil || r.UTF8 {
		field("Content-Transfer-Encoding", "8bit")
	}
	b.WriteString("\r\n")
}

// machine writes the fields of RFC 3464.
func (r *Report) machine(b *bytes.Buffer, boundary string) {
	kind := "delivery-status"
	if r.UTF8 {
		kind = "global-delivery-status\r\nContent-Transfer-Encoding: 8bit"
	}
	b.WriteString("\r\n--" + boundary + "\r\nContent-Description: Delivery report\r\nContent-Type: message/" + kind + "\r\n\r\n")
	field := func(name, value string) { b.Write(header.AppendField(b.AvailableBuffer(), name, value)) }
	field("Reporting-MTA", "dns; "+r.ReportingMTA)
	if id := r.line(r.EnvID); id != "" {
		field("Original-Envelope-Id", id)
	}
	if !r.Arrival.IsZero() {
		field("Arrival-Date", header.FormatDate(r.Arrival))
	}
	for _, c := range r.Recipients {
		b.WriteString("\r\n")
		if c.ORcpt != "" {
			if kind, addr, ok := strings.Cut(c.ORcpt, ";"); ok {
				field("Original-Recipient", r.ascii(kind)+";"+r.line(addr))
			}
		}
		field("Final-Recipient", r.address(c.Address))
		field("Action", string(c.Action))
		field("Status", c.status().String())
		if c.Remote != "" {
			field("Remote-MTA", remote(r.ascii(c.Remote)))
		}
		if d := c.diagnostic(); d != "" {
			field("Diagnostic-Code", "smtp; "+r.ascii(d))
		}
		if !c.LastAttempt.IsZero() {
			field("Last-Attempt-Date", header.FormatDate(c.LastAttempt))
		}
		if c.Action == Delayed && !c.WillRetryUntil.IsZero() {
			field("Will-Retry-Until", header.FormatDate(c.WillRetryUntil))
		}
	}
}

// status is the enhanced code; its class fits the action.
func (c Recipient) status() mail.Enhanced {
	s := c.Status
	if s.IsZero() && c.Failure != nil {
		s = c.Failure.Enhanced
	}
	class := map[Action]int{Failed: 5, Delayed: 4, Delivered: 2, Relayed: 2, Expanded: 2}[c.Action]
	switch {
	case s.IsZero():
		return mail.Enhanced{class, 0, 0}
	case c.Action == Failed && s[0] == 4: // given up after temporary failures
		return s
	}
	s[0] = class
	return s
}

// diagnostic is the peer's answer on one line.
func (c Recipient) diagnostic() string {
	d := c.Diagnostic
	if d == "" && c.Failure != nil {
		d = c.Failure.Reply
		if d == "" && c.Remote == "" {
			d = fmt.Sprintf("%d %s %s", c.Failure.Code, c.Failure.Enhanced, c.Failure.Text)
		}
	}
	d = strings.Join(strings.Fields(header.DecodeText(strings.NewReplacer("\r\n", " ", "\n", " ").Replace(d))), " ")
	if len(d) > 900 {
		d = strings.ToValidUTF8(d[:900], "") + "…"
	}
	return d
}

// address is "type; address" (RFC 3464, section 2.1.2; RFC 6533, section 3).
func (r *Report) address(a mail.Address) string {
	if a.ASCII() {
		return "rfc822; " + a.String()
	}
	if r.UTF8 {
		return "utf-8; " + a.String()
	}
	var b strings.Builder
	b.WriteString("utf-8; ")
	for _, c := range a.String() { // utf-8-addr-unitext, for a report in ASCII
		if c < 0x80 && c > ' ' && c != '\\' && c != '+' && c != '=' {
			b.WriteRune(c)
		} else {
			fmt.Fprintf(&b, `\x{%X}`, c)
		}
	}
	return b.String()
}

// ascii puts ? for what a report in ASCII cannot hold.
func (r *Report) ascii(s string) string {
	if r.UTF8 {
		return s
	}
	return strings.Map(func(c rune) rune {
		if c >= 0x80 {
			return '?'
		}
		return c
	}, s)
}

// line is text of a client's on one line.
func (r *Report) line(s string) string {
	return r.ascii(strings.ToValidUTF8(header.Unfold(s), "?"))
}

// remote is "dns; host", an address in brackets.
func remote(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return "dns; [" + host + "]"
	}
	return "dns; " + host
}

// returned begins the third part; full says that the original follows.
func (r *Report) returned(b *bytes.Buffer, boundary string) (full bool) {
	if r.Header == nil && r.Original == nil {
		return false
	}
	b.WriteString("\r\n--" + boundary + "\r\n")
	full = r.Original != nil
	needs := header.NeedsUTF8(r.Header)
	switch {
	case full && r.UTF8:
		b.WriteString("Content-Description: Your message\r\nContent-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n\r\n")
	case full:
		b.WriteString("Content-Description: Your message\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n")
	case r.UTF8:
		b.WriteString("Content-Description: Header of your message\r\nContent-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n\r\n")
		b.Write(r.Header)
	default:
		b.WriteString("Content-Description: Header of your message\r\nContent-Type: text/rfc822-headers\r\n\r\n")
		h := r.Header
		if needs {
			if d, err := header.Downgrade(h); err == nil {
				h = d
			}
		}
		b.WriteString(r.ascii(strings.ToValidUTF8(string(header.Wrap(h)), "?")))
	}
	return full
}
