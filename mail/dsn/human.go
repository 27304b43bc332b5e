package dsn

import (
	"bytes"
	"fmt"
	"mime/quotedprintable"
	"strings"
	"time"

	"behalf/mail/header"
)

// human writes the part for people: what happened to whom, and what to try.
func (r *Report) human(b *bytes.Buffer, boundary string) {
	text := r.text()
	b.WriteString("--" + boundary + "\r\nContent-Description: Notification\r\nContent-Type: text/plain; charset=utf-8\r\n")
	if header.NeedsUTF8([]byte(text)) {
		b.WriteString("Content-Transfer-Encoding: quoted-printable\r\n\r\n")
		q := quotedprintable.NewWriter(b)
		q.Write([]byte(text)) // a bytes.Buffer takes everything
		q.Close()
		return
	}
	b.WriteString("\r\n" + text)
}

func (r *Report) text() string {
	var b strings.Builder
	line := func(format string, args ...any) {
		for _, l := range wrap(fmt.Sprintf(format, args...)) {
			b.WriteString(l + "\r\n")
		}
	}
	line("%s", map[Action]string{
		Failed:    "Your message could not be delivered to one or more recipients.",
		Delayed:   "Your message has not been delivered yet. You need not send it again: we keep trying.",
		Delivered: "Your message was delivered.",
		Relayed:   "Your message was passed on to the recipient's server, which sends no confirmations itself.",
	}[r.action()])
	line("")
	if r.Subject != "" {
		line("Subject:  %s", clean(r.Subject))
	}
	if !r.OriginalFrom.IsZero() {
		line("From:     %s", r.OriginalFrom)
	}
	if !r.Arrival.IsZero() {
		line("Received: %s", when(r.Arrival))
	}
	for _, c := range r.Recipients {
		line("")
		line("To:       %s", c.Address)
		r.recipient(line, c)
	}
	line("")
	line("This is an automatic message from %s. The report below, for programs, says the same.", r.ReportingMTA)
	return b.String()
}

func (r *Report) recipient(line func(string, ...any), c Recipient) {
	switch c.Action {
	case Failed:
		line("What happened: it was not delivered, and we have stopped trying.")
	case Delayed:
		if c.WillRetryUntil.IsZero() {
			line("What happened: it has not been delivered yet.")
		} else {
			line("What happened: it has not been delivered yet. We try until %s.", when(c.WillRetryUntil))
		}
	case Relayed:
		line("What happened: it was passed on.")
		return
	default:
		line("What happened: it was delivered.")
		return
	}
	advice := c.Advice
	switch {
	case advice != "":
	case c.Action == Delayed:
		advice = "Nothing for now. If it is urgent, reach the recipient by another way."
	default:
		advice = Explain(c.Failure)
	}
	if advice != "" {
		line("What to do: %s", clean(advice))
	}
	if d := c.diagnostic(); d != "" {
		who := c.Remote
		if who == "" {
			who = r.ReportingMTA
		}
		line("Answer of %s: %s", clean(who), d)
	}
}

func when(t time.Time) string { return t.Format("2 January 2006 15:04 -0700") }

// clean keeps what comes from outside on its line.
func clean(s string) string { return strings.Join(strings.Fields(header.DecodeText(s)), " ") }

// wrap breaks a text into lines of at most 74 octets where its blanks allow.
func wrap(s string) []string {
	var lines []string
	for {
		if len(s) <= 74 {
			return append(lines, s)
		}
		at := strings.LastIndexByte(s[:75], ' ')
		if at <= 0 || strings.Trim(s[:at], " ") == "" {
			if at = strings.IndexByte(s[74:], ' '); at < 0 {
				return append(lines, s)
			}
			at += 74
		}
		lines = append(lines, strings.TrimRight(s[:at], " "))
		s = "  " + strings.TrimLeft(s[at:], " ")
	}
}
