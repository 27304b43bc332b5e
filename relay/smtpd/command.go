package smtpd

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"behalf/mail"
)

// command is one line from the client.
type command struct {
	verb string // upper case
	arg  string // the rest, without the spaces around it
}

var errCommand = errors.New("bad command line")

// parseCommand splits a line. Control characters and text that is not UTF-8
// are an error, whatever the verb.
func parseCommand(line []byte) (command, error) {
	for _, c := range line {
		if c < ' ' || c == 0x7f {
			return command{}, errCommand
		}
	}
	if !utf8.Valid(line) {
		return command{}, errCommand
	}
	verb, arg, _ := strings.Cut(string(line), " ")
	return command{strings.ToUpper(verb), strings.Trim(arg, " ")}, nil
}

// isAuth reports whether line is an AUTH command, which may be long.
func isAuth(line []byte) bool {
	return len(line) > 5 && strings.EqualFold(string(line[:5]), "AUTH ")
}

// isHTTP reports whether verb begins an HTTP request: somebody's browser was
// sent here, and what follows must not be run.
func isHTTP(verb string) bool {
	switch verb {
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "HOST:":
		return true
	}
	return false
}

// param is one ESMTP parameter, KEY or KEY=VALUE.
type param struct {
	key   string // upper case
	value string
	has   bool // there was a =
}

// pathArg takes "FROM:<path> params" apart; prefix is "FROM:" or "TO:". A
// space after the colon is not in the grammar but usual.
func pathArg(arg, prefix string) (raw string, addr mail.Address, params []param, err error) {
	if len(arg) < len(prefix) || !strings.EqualFold(arg[:len(prefix)], prefix) {
		return "", addr, nil, errCommand
	}
	raw = strings.TrimLeft(arg[len(prefix):], " ")
	addr, rest, err := mail.ParsePath(raw)
	if err != nil {
		return raw, addr, nil, err
	}
	raw = raw[:len(raw)-len(rest)]
	if rest != "" && rest[0] != ' ' {
		return raw, addr, nil, errCommand
	}
	params, err = parseParams(rest)
	return raw, addr, params, err
}

// errParam is a parameter that breaks the grammar or stands twice.
var errParam = errors.New("bad parameter")

// maxParams bounds the parameters of one command; there are about a dozen.
const maxParams = 32

func parseParams(s string) ([]param, error) {
	var list []param
	for f := range strings.FieldsSeq(s) {
		key, value, has := strings.Cut(f, "=")
		p := param{strings.ToUpper(key), value, has}
		if !isKeyword(p.key) || has && value == "" || len(list) == maxParams {
			return nil, errParam
		}
		for _, q := range list {
			if q.key == p.key {
				return nil, errParam
			}
		}
		list = append(list, p)
	}
	return list, nil
}

// isKeyword is esmtp-keyword of RFC 5321, in upper case.
func isKeyword(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' && i > 0) {
			return false
		}
	}
	return s != ""
}

// decodeXtext undoes the encoding of RFC 3461, section 4.
func decodeXtext(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c < '!' || c > '~' || c == '=':
			return "", false
		case c != '+':
			b.WriteByte(c)
		case i+2 >= len(s) || !isUpperHex(s[i+1]) || !isUpperHex(s[i+2]):
			return "", false
		default:
			n, _ := strconv.ParseUint(s[i+1:i+3], 16, 8)
			b.WriteByte(byte(n))
			i += 2
		}
	}
	return b.String(), true
}

func isUpperHex(c byte) bool { return '0' <= c && c <= '9' || 'A' <= c && c <= 'F' }

// printable reports whether s is ASCII without controls.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// decodeORcpt reads addr-type ";" xtext and returns it decoded (RFC 3461,
// section 4.2). For the type utf-8 that is RFC 6533, section 3: \x{HEX} and,
// in a transaction with SMTPUTF8, the characters themselves.
func decodeORcpt(s string, utf8Allowed bool) (string, bool) {
	if len(s) > 500 {
		return "", false
	}
	kind, addr, ok := strings.Cut(s, ";")
	if !ok || addr == "" || !isKeyword(strings.ToUpper(kind)) {
		return "", false
	}
	kind = strings.ToLower(kind)
	if kind == "utf-8" {
		addr, ok = decodeUTF8Addr(addr, utf8Allowed)
	} else if addr, ok = decodeXtext(addr); ok {
		ok = printable(addr)
	}
	return kind + ";" + addr, ok && addr != ""
}

func decodeUTF8Addr(s string, utf8Allowed bool) (string, bool) {
	var b strings.Builder
	for s != "" {
		if hex, found := strings.CutPrefix(s, `\x{`); found {
			digits, rest, closed := strings.Cut(hex, "}")
			n, err := strconv.ParseUint(digits, 16, 32)
			if !closed || err != nil || !utf8.ValidRune(rune(n)) || n < ' ' || 0x7f <= n && n < 0xa0 {
				return "", false
			}
			b.WriteRune(rune(n))
			s = rest
			continue
		}
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError, r <= ' ', r == '=', r == '+', r == '\\', 0x7f <= r && r < 0xa0, r > 0x7e && !utf8Allowed:
			return "", false
		}
		b.WriteRune(r)
		s = s[size:]
	}
	return b.String(), true
}

// parseNotify reads the value of NOTIFY (RFC 3461, section 4.1).
func parseNotify(s string) (n mail.Notify, ok bool) {
	for word := range strings.SplitSeq(s, ",") {
		var one mail.Notify
		switch strings.ToUpper(word) {
		case "NEVER":
			one = mail.NotifyNever
		case "SUCCESS":
			one = mail.NotifySuccess
		case "FAILURE":
			one = mail.NotifyFailure
		case "DELAY":
			one = mail.NotifyDelay
		default:
			return 0, false
		}
		if n&one != 0 || n&mail.NotifyNever != 0 || n != 0 && one == mail.NotifyNever {
			return 0, false
		}
		n |= one
	}
	return n, true
}

// parseOctets reads a count of octets, 1 to 20 digits.
func parseOctets(s string) (int64, bool) {
	if s == "" || len(s) > 20 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 1<<63 - 1, true // too many to count, and so too many
	}
	return n, true
}
