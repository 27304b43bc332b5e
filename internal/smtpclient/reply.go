package smtpclient

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"behalf/mail"
)

// Bounds of a reply. RFC 5321 allows 512 octets a line; real ones are longer.
const (
	maxReplyLine  = 2048
	maxReplyLines = 128
)

// errProtocol is wrapped when the peer did not speak SMTP.
var errProtocol = errors.New("the server broke the SMTP protocol")

// Reply is a server's answer to a command.
type Reply struct {
	Code int    // 200 to 599
	Raw  string // its lines as they came, joined by \n, without control characters
}

// Positive reports a 2xx.
func (r Reply) Positive() bool { return r.Code/100 == 2 }

// Lines are the texts of the lines, without their codes.
func (r Reply) Lines() []string {
	lines := strings.Split(r.Raw, "\n")
	for i, l := range lines {
		lines[i] = l[min(4, len(l)):]
	}
	return lines
}

// Enhanced is the enhanced status code (RFC 3463) that the reply begins with.
// One whose class contradicts the reply code does not count.
func (r Reply) Enhanced() mail.Enhanced {
	if len(r.Raw) < 5 {
		return mail.Enhanced{}
	}
	word, _, _ := strings.Cut(r.Raw[4:], "\n")
	word, _, _ = strings.Cut(word, " ")
	e, ok := mail.ParseEnhanced(strings.TrimRight(word, ":-"))
	if !ok || e[0] != r.Code/100 {
		return mail.Enhanced{}
	}
	return e
}

// Text is what the reply says, in one line without codes.
func (r Reply) Text() string {
	var b strings.Builder
	enhanced := r.Enhanced()
	for _, l := range r.Lines() {
		if !enhanced.IsZero() {
			l = strings.TrimLeft(strings.TrimPrefix(l, enhanced.String()), " :-")
		}
		if l = strings.TrimSpace(l); l == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(l)
	}
	return b.String()
}

// readReply reads one reply of any number of lines.
func readReply(r *bufio.Reader, known *phrases) (Reply, error) {
	first, code, more, err := readReplyLine(r, known)
	if err != nil {
		return Reply{}, err
	}
	reply := Reply{Code: code, Raw: first}
	if !more {
		return reply, nil
	}
	lines := []string{first}
	for more {
		if len(lines) == maxReplyLines {
			return Reply{}, fmt.Errorf("%w: a reply of more than %d lines", errProtocol, maxReplyLines)
		}
		var line string
		var c int
		if line, c, more, err = readReplyLine(r, nil); err != nil {
			return Reply{}, err
		}
		if c != code {
			return Reply{}, fmt.Errorf("%w: the lines of one reply have the codes %d and %d", errProtocol, code, c)
		}
		lines = append(lines, line)
	}
	reply.Raw = strings.Join(lines, "\n")
	return reply, nil
}

// readReplyLine reads a line; more is set when the reply goes on.
func readReplyLine(r *bufio.Reader, known *phrases) (line string, code int, more bool, err error) {
	b, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) || len(b) > maxReplyLine {
		return "", 0, false, fmt.Errorf("%w: a reply line over %d octets", errProtocol, maxReplyLine)
	}
	if err != nil {
		return "", 0, false, err
	}
	b = b[:len(b)-1]
	if len(b) > 0 && b[len(b)-1] == '\r' {
		b = b[:len(b)-1]
	}
	if len(b) < 3 || b[0] < '2' || b[0] > '5' || !isDigit(b[1]) || !isDigit(b[2]) || len(b) > 3 && b[3] != ' ' && b[3] != '-' {
		return "", 0, false, fmt.Errorf("%w: %q is no reply", errProtocol, clean(b[:min(len(b), 60)]))
	}
	code = int(b[0]-'0')*100 + int(b[1]-'0')*10 + int(b[2]-'0')
	return known.text(b), code, len(b) > 3 && b[3] == '-', nil
}

// phrases are lines that a server says again and again: "250 2.1.5 Ok". Each is
// made a string once a session, not once a message.
type phrases struct {
	said [4]string
	next int
}

// maxPhrase is the longest that is worth keeping.
const maxPhrase = 80

// text is clean, which is the only thing that nil phrases do.
func (p *phrases) text(b []byte) string {
	if p == nil {
		return clean(b)
	}
	for _, s := range p.said {
		if string(b) == s {
			return s
		}
	}
	s := clean(b)
	if len(s) <= maxPhrase && s == string(b) {
		p.said[p.next] = s
		p.next = (p.next + 1) % len(p.said)
	}
	return s
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// clean is b as text without control characters and broken UTF-8.
func clean(b []byte) string {
	plain := true
	for _, c := range b {
		plain = plain && c >= ' ' && c < 0x7f
	}
	if plain {
		return string(b)
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r < ' ', r >= 0x7f && r < 0xa0, r == utf8.RuneError, r == 0x2028, r == 0x2029:
			return '?'
		}
		return r
	}, string(b))
}
