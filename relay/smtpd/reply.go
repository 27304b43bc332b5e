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
	if isLine(text) {
		s.out = appendLine(s.out, code, ' ', e, text)
		s.queued()
		return
	}
	s.sendLines(code, e, replyLines(text, s.env.UTF8))
}

// greet queues an answer that has no enhanced code: the banner, replies to
// HELO and EHLO, and intermediate ones.
func (s *session) greet(code int, lines ...string) { s.sendLines(code, mail.Enhanced{}, lines) }

func (s *session) sendLines(code int, e mail.Enhanced, lines []string) {
	for i, l := range lines {
		sep := byte('-')
		if i == len(lines)-1 {
			sep = ' '
		}
		s.out = appendLine(s.out, code, sep, e, l)
	}
	s.queued()
}

// appendLine appends one line of a reply.
func appendLine(b []byte, code int, sep byte, e mail.Enhanced, text string) []byte {
	b = append(strconv.AppendInt(b, int64(code), 10), sep)
	if !e.IsZero() {
		for i, n := range e {
			b = append(strconv.AppendInt(b, int64(n), 10), "..  "[i])
		}
	}
	return append(append(b, text...), "\r\n"...)
}

// isLine reports whether text can stand in a reply as it is, on one line.
func isLine(text string) bool {
	if text == "" || len(text) > maxReplyText || text[0] == ' ' || text[len(text)-1] == ' ' {
		return false
	}
	return printable(text)
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
