package scan

import (
	"bytes"
	"encoding/base64"
	"strings"

	"behalf/mail/header"
)

// Text is what the header of a message or part says of how to read its body.
type Text struct {
	Type     string // value of Content-Type; empty: text/plain
	Encoding string // of Content-Transfer-Encoding
}

// First gives up to most octets of the first text of a body, decoded. The body
// is what of it is at hand: its beginning will do. Broken MIME and a message
// without text give what can be had, be it nothing. The text may share memory
// with body.
func (t Text) First(body []byte, most int) []byte {
	text, _ := t.first(body, most, 0)
	return text
}

// first looks into a part; ok is false when there is no text in it.
func (t Text) first(body []byte, most, depth int) (text []byte, ok bool) {
	if header.IsMultipart(t.Type) {
		_, params := header.ContentType(t.Type)
		if depth > maxDepth || params["boundary"] == "" {
			return nil, false
		}
		return firstOf(body, "--"+params["boundary"], most, depth)
	}
	if t.Type != "" && !isText(t.Type) {
		return nil, false
	}
	encoding := strings.Trim(t.Encoding, " \t")
	switch {
	case strings.EqualFold(encoding, "base64"):
		return fromBase64(body, most), true
	case strings.EqualFold(encoding, "quoted-printable"):
		return fromQuotedPrintable(body, most), true
	}
	return body[:min(most, len(body))], true
}

func isText(value string) bool {
	const prefix = "text/"
	value = strings.TrimLeft(value, " \t\r\n")
	return len(value) > len(prefix) && strings.EqualFold(value[:len(prefix)], prefix)
}

// firstOf looks into the parts between the delimiters (RFC 2046, section 5.1.1).
func firstOf(body []byte, delimiter string, most, depth int) (text []byte, ok bool) {
	at := nextPart(body, delimiter)
	for range maxDepth {
		if at < 0 {
			return nil, false
		}
		body = body[at:]
		if bytes.HasPrefix(body, []byte("--")) { // the end
			return nil, false
		}
		if i := bytes.IndexByte(body, '\n'); i >= 0 {
			body = body[i+1:]
		}
		at = nextPart(body, delimiter)
		part := body
		if at >= 0 {
			part = bytes.TrimSuffix(bytes.TrimSuffix(body[:at-len(delimiter)], []byte("\n")), []byte("\r"))
		}
		head := part
		if bytes.HasPrefix(part, []byte("\r\n")) {
			head = part[:2]
		} else if i := bytes.Index(part, []byte("\r\n\r\n")); i >= 0 {
			head = part[:i+4]
		} else {
			continue // no body, or it does not begin in what is at hand
		}
		var t Text
		t.Type, _ = header.Lookup(head, "Content-Type")
		t.Encoding, _ = header.Lookup(head, "Content-Transfer-Encoding")
		t.Type = strings.TrimLeft(t.Type, " \t")
		if text, ok = t.first(part[len(head):], most, depth+1); ok {
			return text, true
		}
	}
	return nil, false
}

// nextPart is where the first delimiter at the beginning of a line ends; -1 if
// there is none.
func nextPart(body []byte, delimiter string) int {
	for at := 0; ; {
		i := bytes.Index(body[at:], []byte(delimiter))
		if i < 0 {
			return -1
		}
		begin := at + i
		at = begin + len(delimiter)
		if begin == 0 || body[begin-1] == '\n' {
			return at
		}
	}
}

// fromBase64 passes over line ends, and ends where the text is not base64.
func fromBase64(body []byte, most int) []byte {
	body = body[:min(len(body), most/3*4+most/16+8)]
	text := make([]byte, base64.StdEncoding.DecodedLen(len(body)))
	n, _ := base64.StdEncoding.Decode(text, body)
	return text[:min(n, most)]
}

// fromQuotedPrintable leaves alone what is no encoding (RFC 2045, section 6.7).
func fromQuotedPrintable(body []byte, most int) []byte {
	if bytes.IndexByte(body[:min(most, len(body))], '=') < 0 {
		return body[:min(most, len(body))]
	}
	text := make([]byte, 0, min(most, len(body)))
	for len(body) > 0 && len(text) < most {
		i := bytes.IndexByte(body, '=')
		if i < 0 {
			i = len(body)
		}
		i = min(i, most-len(text))
		text, body = append(text, body[:i]...), body[i:]
		switch {
		case len(body) == 0 || len(text) == most:
		case bytes.HasPrefix(body, []byte("=\r\n")):
			body = body[3:]
		case bytes.HasPrefix(body, []byte("=\n")):
			body = body[2:]
		default:
			c, n := byte('='), 1
			if len(body) >= 3 {
				if hi, lo := unhex(body[1]), unhex(body[2]); hi < 16 && lo < 16 {
					c, n = hi<<4|lo, 3
				}
			}
			text, body = append(text, c), body[n:]
		}
	}
	return text
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}
