package smtpclient

import (
	"bufio"
	"errors"
	"strconv"
	"strings"
	"time"
)

// earlyWait is how long to listen for the reason of a broken session.
const earlyWait = 2 * time.Second

// ownError is trouble on our side of a transaction.
type ownError struct{ err error }

func (e *ownError) Error() string { return e.err.Error() }
func (e *ownError) Unwrap() error { return e.err }

// countWriter writes the announced number of octets and no more.
type countWriter struct {
	w    *bufio.Writer
	left int64
	wire error
}

func (c *countWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > c.left {
		return 0, errors.New("the message is longer than it said")
	}
	c.left -= int64(len(p))
	n, err := c.w.Write(p)
	if err != nil {
		c.wire = err
	}
	return n, err
}

// xtext encodes a parameter's value (RFC 3461, section 4).
func xtext(s string) string {
	plain := true
	for i := range len(s) {
		plain = plain && xchar(s[i])
	}
	if plain {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; xchar(c) {
			b.WriteByte(c)
		} else {
			const hex = "0123456789ABCDEF"
			b.Write([]byte{'+', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}

func xchar(c byte) bool { return c > ' ' && c < 0x7f && c != '+' && c != '=' }

// utf8Xtext is utf-8-addr-xtext (RFC 6533, section 3), which is ASCII.
func utf8Xtext(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < 0x80 && xchar(byte(r)) && r != '\\' {
			b.WriteRune(r)
		} else {
			b.WriteString(`\x{` + strings.ToUpper(strconv.FormatInt(int64(r), 16)) + `}`)
		}
	}
	return b.String()
}

// originalRcpt is the value of ORCPT.
func originalRcpt(r *Rcpt) string {
	kind, value, ok := strings.Cut(r.ORcpt, ";")
	if !ok {
		kind, value = "rfc822", r.To.String()
		if !r.To.ASCII() {
			kind = "utf-8"
		}
	}
	if strings.EqualFold(kind, "utf-8") {
		return xtext(kind) + ";" + utf8Xtext(value)
	}
	return xtext(kind) + ";" + xtext(value)
}
