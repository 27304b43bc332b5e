// Package header reads and edits the header of a message (RFC 5322, section 2.2)
// while keeping every byte that it was not asked to change, and reads and writes
// the values of the fields that the relay must understand.
//
// Three invariants hold. [Parse] accepts only what every other reader sees the
// same way: CRLF line ends, no NUL, plain field names, and no more than fixed
// numbers of octets, lines and fields. [Apply] never lets a value begin a new
// field. And no address or name read here holds a control character.
package header

import (
	"bytes"
	"iter"
	"strings"

	"behalf/mail"
)

// Limits of a header, empty line included. Folding is quadratic in some
// verifiers, so lines are counted as well as octets.
const (
	MaxBytes  = 128 << 10
	MaxLines  = 2000
	MaxFields = 1000
)

// Field is one header field. Start and End are its place in the header.
type Field struct {
	Name       string // as written
	Raw        string // the whole field with its line ends
	Start, End int
}

// Is reports whether that is the name of the field, compared without case.
func (f *Field) Is(name string) bool {
	return len(f.Name) == len(name) && strings.EqualFold(f.Name, name) // both are ASCII
}

// Body is what follows the colon, as written, without the last line end.
func (f Field) Body() string { return strings.TrimSuffix(f.Raw[len(f.Name)+1:], "\r\n") }

// Value is the body unfolded (RFC 5322, section 2.2.3) and trimmed.
func (f Field) Value() string { return Unfold(f.Body()) }

// Unfold removes the line ends of a folded value and the blanks around it.
func Unfold(s string) string {
	s = strings.Trim(s, " \t\r\n")
	if !strings.ContainsAny(s, "\r\n") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		if s[i] != '\r' && s[i] != '\n' {
			b = append(b, s[i])
		}
	}
	return string(b)
}

// Header is a parsed header: its fields in order.
type Header struct {
	fields []Field
	size   int
}

// Find gives the size of the header at the front of b, with its empty line; ok
// is false if b holds no empty line.
func Find(b []byte) (size int, ok bool) {
	if bytes.HasPrefix(b, []byte("\r\n")) {
		return 2, true
	}
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		return i + 4, true
	}
	return len(b), false
}

// TooLarge is the failure of a header over [MaxBytes].
func TooLarge() *mail.Failure {
	return mail.Fail(552, mail.Enhanced{5, 3, 4}, mail.OfMessage, mail.ReasonTooLarge, "the header is larger than %d KiB", MaxBytes>>10)
}

// mostFields is how many fields there is room for at once, if there are as many
// lines; most headers have fewer.
const mostFields = 32

func bad(format string, args ...any) *mail.Failure {
	return mail.Fail(554, mail.Enhanced{5, 6, 0}, mail.OfMessage, mail.ReasonContent, format, args...)
}

// Parse reads a header up to and with its empty line, or up to the end of b: a
// message may have no body and then no empty line. What follows the empty line
// is not looked at. The error is always a [*mail.Failure].
func Parse(b []byte) (Header, error) { return ParseInto(b, nil) }

// ParseInto is Parse with room for the fields, which is theirs as long as the header
// is used.
func ParseInto(b []byte, room []Field) (Header, error) {
	size, _ := Find(b)
	if size > MaxBytes {
		return Header{}, TooLarge()
	}
	h := Header{size: size, fields: room[:0]}
	s := string(b[:size])
	for at, line := 0, 1; at < len(s); line++ {
		if line > MaxLines {
			return Header{}, bad("the header has more than %d lines", MaxLines)
		}
		end, err := checkLine(s, at, line)
		if err != nil {
			return Header{}, err
		}
		text := s[at:end]
		switch {
		case text == "\r\n":
			return h, nil
		case text[0] != ' ' && text[0] != '\t':
			if len(h.fields) == MaxFields {
				return Header{}, bad("the header has more than %d fields", MaxFields)
			}
			name, _, ok := strings.Cut(text, ":")
			if !ok || !ValidName(name) {
				return Header{}, bad("line %d of the header is not a field; an empty line must stand between header and body", line)
			}
			if h.fields == nil {
				h.fields = make([]Field, 0, min(strings.Count(s[at:], "\n"), mostFields))
			}
			h.fields = append(h.fields, Field{Name: name, Raw: text, Start: at, End: end})
		case len(h.fields) == 0:
			return Header{}, bad("the header begins with a continuation line")
		default:
			f := &h.fields[len(h.fields)-1]
			f.Raw, f.End = s[f.Start:end], end
		}
		at = end
	}
	return h, nil
}

// checkLine gives the end of the line at s[at], its line end included.
func checkLine(s string, at, line int) (int, error) {
	end := len(s)
	text := s[at:]
	if i := strings.IndexByte(text, '\n'); i >= 0 {
		if i == 0 || text[i-1] != '\r' {
			return 0, bad("line %d of the header ends in LF without CR", line)
		}
		end = at + i + 1
		text = text[:i-1]
	}
	if strings.IndexByte(text, '\r') >= 0 {
		return 0, bad("line %d of the header holds a CR without LF", line)
	}
	if strings.IndexByte(text, 0) >= 0 {
		return 0, bad("line %d of the header holds a NUL", line)
	}
	return end, nil
}

// ValidName reports whether name may be a field name (RFC 5322, section 3.6.8).
func ValidName(name string) bool {
	for i := range len(name) {
		if name[i] <= ' ' || name[i] >= 0x7f || name[i] == ':' {
			return false
		}
	}
	return name != ""
}

// Size is the number of octets of the header, its empty line included.
func (h Header) Size() int { return h.size }

// All gives the fields in order; it must not be changed.
func (h Header) All() []Field { return h.fields }

// Each goes through the fields of that name, compared without case.
func (h Header) Each(name string) iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for i := range h.fields {
			if h.fields[i].Is(name) && !yield(h.fields[i]) {
				return
			}
		}
	}
}

// Fields gives the fields of that name, in order.
func (h Header) Fields(name string) []Field {
	var fs []Field
	for f := range h.Each(name) {
		fs = append(fs, f)
	}
	return fs
}

// first gives the first field of that name, or nil.
func (h Header) first(name string) *Field {
	for i := range h.fields {
		if h.fields[i].Is(name) {
			return &h.fields[i]
		}
	}
	return nil
}

// Get is the value of the first field of that name, unfolded; "" if there is none.
func (h Header) Get(name string) string {
	if f := h.first(name); f != nil {
		return f.Value()
	}
	return ""
}

// Has reports whether there is a field of that name.
func (h Header) Has(name string) bool { return h.first(name) != nil }

// Count is the number of fields of that name.
func (h Header) Count(name string) int {
	n := 0
	for range h.Each(name) {
		n++
	}
	return n
}

// Lookup finds the first field of that name in raw header bytes and gives its
// value unfolded, at less cost than [Parse] and without its checks.
func Lookup(header []byte, name string) (value string, ok bool) {
	for rest := header; len(rest) > 0; {
		n := fieldLen(rest)
		if n > len(name) && rest[len(name)] == ':' && strings.EqualFold(string(rest[:len(name)]), name) {
			return Unfold(string(rest[len(name)+1 : n])), true
		}
		rest = rest[n:]
	}
	return "", false
}
