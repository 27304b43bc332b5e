package header

import (
	"errors"
	"mime"
	netmail "net/mail"
	"strings"
	"time"
)

// ValidMessageID reports whether s is one message identifier with its brackets
// (RFC 5322, section 3.6.4), in the loose form that is met in practice: any
// printable text with an @ in it.
func ValidMessageID(s string) bool {
	if len(s) < 5 || len(s) > lineMost-len("Message-ID: ") || s[0] != '<' || s[len(s)-1] != '>' {
		return false
	}
	in := s[1 : len(s)-1]
	for i := range len(in) {
		if in[i] <= ' ' || in[i] == 0x7f || in[i] == '<' || in[i] == '>' {
			return false
		}
	}
	at := strings.LastIndexByte(in, '@')
	return at > 0 && at < len(in)-1
}

// ParseDate reads the value of a Date field (RFC 5322, section 3.3).
func ParseDate(s string) (time.Time, error) {
	t, err := netmail.ParseDate(s)
	if err != nil {
		return time.Time{}, errors.New(`not a date; want for example "Tue, 3 Nov 2026 09:00:00 +0100"`)
	}
	return t, nil
}

// AppendDate appends t as the value of a Date field, in its own zone.
func AppendDate(b []byte, t time.Time) []byte {
	year, month, day := t.Date()
	_, east := t.Zone()
	if year < 1000 || year > 9999 {
		return t.AppendFormat(b, dateLayout)
	}
	hour, minute, second := t.Clock()
	b = append(append(b, t.Weekday().String()[:3]...), ", "...)
	b = append(appendTwo(b, day), ' ')
	b = append(append(b, month.String()[:3]...), ' ')
	b = append(appendTwo(appendTwo(b, year/100), year%100), ' ')
	b = append(appendTwo(b, hour), ':')
	b = append(appendTwo(b, minute), ':')
	b = append(appendTwo(b, second), ' ')
	sign := byte('+')
	if east /= 60; east < 0 {
		sign, east = '-', -east
	}
	return appendTwo(appendTwo(append(b, sign), east/60), east%60)
}

// appendTwo appends a number of two digits.
func appendTwo(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }

const dateLayout = "Mon, 02 Jan 2006 15:04:05 -0700"

// FormatDate is t as the value of a Date field, in its own zone.
func FormatDate(t time.Time) string { return t.Format(dateLayout) }

// ContentType takes a Content-Type or Content-Disposition value apart (RFC
// 2045, section 5.1; RFC 2231): the media type in lower case, and parameters by
// lower-case name. Malformed values give what can be read of them.
func ContentType(value string) (media string, params map[string]string) {
	value = Unfold(value)
	if media, params, err := mime.ParseMediaType(value); err == nil {
		return media, params
	}
	parts := splitParams(value)
	media = strings.ToLower(strings.Trim(parts[0], " \t"))
	params = make(map[string]string, len(parts)-1)
	for _, part := range parts[1:] {
		name, v, ok := strings.Cut(part, "=")
		name = strings.ToLower(strings.Trim(name, " \t"))
		if _, dup := params[name]; !ok || dup || name == "" {
			continue
		}
		params[name] = unquote(strings.Trim(v, " \t"))
	}
	return media, params
}

// MediaType is the media type of a Content-Type, in lower case, and whether it
// has a name, as a file has: what [ContentType] says, at less cost for the usual.
func MediaType(value string) (media string, named bool) {
	value = Unfold(value)
	kind, rest, more := strings.Cut(value, ";")
	if typ, sub, ok := strings.Cut(kind, "/"); ok && isPlain(typ) && isPlain(sub) && (!more || isCharset(rest)) {
		return strings.ToLower(kind), false
	}
	media, params := ContentType(value)
	return media, params["name"] != ""
}

// isCharset reports whether the charset is all that parameters say.
func isCharset(params string) bool {
	const name = "charset="
	params = strings.TrimLeft(params, " \t")
	if len(params) < len(name) || !strings.EqualFold(params[:len(name)], name) {
		return false
	}
	value := params[len(name):]
	if n := len(value); n > 2 && value[0] == '"' && value[n-1] == '"' {
		value = value[1 : n-1]
	}
	return isPlain(value)
}

// isPlain reports whether s is a token that reads the same everywhere.
func isPlain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '+', c == '.', c == '_':
		default:
			return false
		}
	}
	return s != ""
}

// splitParams splits at semicolons outside quoted strings.
func splitParams(s string) []string {
	var parts []string
	quoted, start := false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ';' && !quoted:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

func unquote(s string) string {
	if !strings.HasPrefix(s, `"`) {
		if i := strings.IndexAny(s, " \t("); i >= 0 {
			s = s[:i]
		}
		return s
	}
	p := lexer{s: s}
	v, err := p.quoted()
	if err != nil {
		return strings.Trim(s, `"`)
	}
	return v
}

// Sealed reports whether the header says multipart/signed or encrypted (RFC
// 1847): content that must not be re-encoded.
func (h Header) Sealed() bool {
	value := h.Get("Content-Type")
	if !IsMultipart(value) {
		return false
	}
	media, _ := ContentType(value)
	return IsSealed(media)
}

// IsSealed is Sealed for a media type.
func IsSealed(media string) bool {
	return media == "multipart/signed" || media == "multipart/encrypted"
}

// IsMultipart reports whether a Content-Type value begins with multipart/, at
// less cost than [ContentType].
func IsMultipart(value string) bool {
	const prefix = "multipart/"
	return len(value) > len(prefix) && strings.EqualFold(value[:len(prefix)], prefix)
}
