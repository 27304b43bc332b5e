package smtpd

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"behalf/mail"
)

// maxReplyText is the room for text on one line of a reply: RFC 5321, section
// 4.5.3.1.5, allows 512 octets with code and CRLF.
const maxReplyText = 512 - len("250 ") - len("5.555.555 ") - len("\r\n")

// reply queues an answer with its enhanced code on every line (RFC 2034).
// Text may have several lines; control characters cannot get out.
func (s *session) reply(code int, e mail.Enhanced, text string) {
	prefix := e.String() + " "
	if e.IsZero() {
		prefix = ""
	}
	s.sendLines(code, prefix, replyLines(text, s.env.UTF8))
}

// greet queues an answer that has no enhanced code: the banner, replies to
// HELO and EHLO, and intermediate ones.
func (s *session) greet(code int, lines ...string) { s.sendLines(code, "", lines) }

func (s *session) sendLines(code int, prefix string, lines []string) {
	b := make([]byte, 0, 128)
	for i, l := range lines {
		b = strconv.AppendInt(b, int64(code), 10)
		if i < len(lines)-1 {
			b = append(b, '-')
		} else {
			b = append(b, ' ')
		}
		b = append(b, prefix...)
		b = append(b, l...)
		b = append(b, "\r\n"...)
	}
	s.send(b)
}

// replyLines cuts text into lines that may stand in a reply.
func replyLines(text string, utf8Allowed bool) []string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(clean(line, utf8Allowed))
		for len(line) > maxReplyText {
			i := strings.LastIndexByte(line[:maxReplyText], ' ')
			if i <= 0 {
				for i = maxReplyText; !utf8.RuneStart(line[i]); i-- {
				}
			}
			lines = append(lines, line[:i])
			line = strings.TrimSpace(line[i:])
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	if lines == nil {
		return []string{"no reason was given"}
	}
	return lines
}

// clean replaces control characters by spaces and, unless the client asked for
// SMTPUTF8 (RFC 6531, section 3.7.4.1), what is not ASCII by question marks.
func clean(s string, utf8Allowed bool) string {
	plain := true
	for i := range len(s) {
		plain = plain && s[i] >= ' ' && s[i] < 0x7f
	}
	if plain {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r < ' ' || 0x7f <= r && r < 0xa0:
			return ' '
		case r > 0x7e && (!utf8Allowed || r == utf8.RuneError):
			return '?'
		}
		return r
	}, s)
}

// told is what a client is told of a failure: code and enhanced code in the
// range of refusals and of one class.
func told(f *mail.Failure) (int, mail.Enhanced) {
	code, e := f.Code, f.Enhanced
	if code < 400 || code > 599 {
		return 451, mail.Enhanced{4, 3, 0}
	}
	if e[0] != code/100 {
		e = mail.Enhanced{code / 100, e[1], e[2]}
	}
	return code, e
}
