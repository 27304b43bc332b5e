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

// Bounds of Texts: how deep multiparts may be nested, how many parts are looked
// at, and how many texts given.
const (
	textDepth = 6
	textParts = 100
	textMost  = 8
)

// Texts gives the texts of a body, decoded, of all together up to most octets,
// and tells whether these are all. The body is what of it is at hand. Broken MIME
// and a message without text give what can be had, be it nothing. A text may
// share memory with body. A message within the message is none of its texts, but
// some programs show it, so that these are not all then.
func (t Text) Texts(body []byte, most int) (list [][]byte, all bool) {
	r := reader{room: most, all: true}
	r.part(t, body, 0)
	return r.list, r.all
}

// reader collects texts.
type reader struct {
	list  [][]byte
	room  int // octets
	parts int
	all   bool
}

func (r *reader) part(t Text, body []byte, depth int) {
	if r.parts++; r.parts > textParts {
		r.all = false
		return
	}
	if header.IsMultipart(t.Type) {
		_, params := header.ContentType(t.Type)
		if depth >= textDepth || params["boundary"] == "" {
			r.all = false
			return
		}
		r.multipart(body, "--"+params["boundary"], depth)
		return
	}
	if t.Type != "" && !isText(t.Type) {
		r.all = r.all && !isMessage(t.Type)
		return
	}
	if len(r.list) == textMost {
		r.all = false
		return
	}
	text, right := t.decode(body, r.room+1)
	r.all = r.all && right
	if len(text) > r.room {
		text, r.all = text[:r.room], false
	}
	r.room -= len(text)
	r.list = append(r.list, text)
}

// decode gives up to most octets; right is false where programs may see more.
func (t Text) decode(body []byte, most int) (text []byte, right bool) {
	encoding := strings.Trim(t.Encoding, " \t")
	switch {
	case strings.EqualFold(encoding, "base64"):
		return fromBase64(body, most)
	case strings.EqualFold(encoding, "quoted-printable"):
		return fromQuotedPrintable(body, most), true
	}
	return body[:min(most, len(body))], true
}

func isMessage(value string) bool {
	const prefix = "message/rfc822"
	value = strings.TrimLeft(value, " \t\r\n")
	return len(value) >= len(prefix) && strings.EqualFold(value[:len(prefix)], prefix) || strings.HasPrefix(strings.ToLower(value), "message/global")
}

func isText(value string) bool {
	const prefix = "text/"
	value = strings.TrimLeft(value, " \t\r\n")
	return len(value) > len(prefix) && strings.EqualFold(value[:len(prefix)], prefix)
}

// multipart looks into the parts between the delimiters (RFC 2046, section
// 5.1.1).
func (r *reader) multipart(body []byte, delimiter string, depth int) {
	for at := nextPart(body, delimiter); at >= 0 && r.parts <= textParts; {
		body = body[at:]
		if bytes.HasPrefix(body, []byte("--")) { // the end
			return
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
			r.all = false // no body, or it does not begin in what is at hand
			continue
		}
		var t Text
		t.Type, _ = header.Lookup(head, "Content-Type")
		t.Encoding, _ = header.Lookup(head, "Content-Transfer-Encoding")
		t.Type = strings.TrimLeft(t.Type, " \t")
		r.part(t, part[len(head):], depth+1)
	}
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

// fromBase64 passes over line ends, and ends where the text is not base64; some
// programs pass over that, too.
func fromBase64(body []byte, most int) (text []byte, right bool) {
	body = body[:min(len(body), most/3*4+most/16+8)]
	text = make([]byte, base64.StdEncoding.DecodedLen(len(body)))
	n, err := base64.StdEncoding.Decode(text, body)
	return text[:min(n, most)], err == nil || n >= most
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
