package header

import (
	"encoding/base64"
	"mime"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
)

// Lengths of a line without its end (RFC 5322, section 2.1.1).
const (
	lineWanted = 78
	lineMost   = 998
)

// Fold gives a whole field, "Name: value" and a line end, broken at blanks so
// that lines stay within 78 octets where the blanks allow it. A value that is
// folded already keeps its folds.
func Fold(name, value string) string { return string(AppendField(nil, name, value)) }

// AppendField appends what [Fold] gives. Any line end in value that is not a
// fold becomes a blank, so that a value can never begin another field.
func AppendField(out []byte, name, value string) []byte {
	out = append(out, name...)
	out = append(out, ": "...)
	col := len(name) + 2
	value = clean(value)
	for first := true; value != ""; first = false {
		line, rest, folded := strings.Cut(value, "\r\n")
		if !first {
			out = append(out, "\r\n"...)
			col = 0
		}
		out = appendFolded(out, line, col)
		value = rest
		if !folded {
			break
		}
	}
	return append(out, "\r\n"...)
}

// clean replaces control characters by blanks, proper folds excepted.
func clean(s string) string {
	i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
	if i < 0 {
		return s
	}
	b := []byte(strings.TrimRight(s, "\r\n"))
	for ; i < len(b); i++ {
		if b[i] == '\r' && isFold(string(b[i:min(i+3, len(b))])) && !blankLine(b[i+2:]) {
			i += 2
		} else if b[i] < ' ' && b[i] != '\t' || b[i] == 0x7f {
			b[i] = ' '
		}
	}
	return string(b)
}

// blankLine reports whether b begins with a line of blanks only, which some
// readers take for the end of the header.
func blankLine(b []byte) bool {
	for _, c := range b {
		if c != ' ' && c != '\t' {
			return c == '\r' || c == '\n'
		}
	}
	return true
}

// appendFolded appends text, which has no line ends, beginning at column col.
func appendFolded(out []byte, text string, col int) []byte {
	for col+len(text) > lineWanted {
		at := foldPoint(text, lineWanted-col)
		if at < 0 {
			break
		}
		out = append(out, text[:at]...)
		out = append(out, "\r\n"...)
		text, col = text[at:], 0
	}
	return append(out, text...)
}

// foldPoint is where to break text: before the last run of blanks that begins
// within room octets, or the first one after; -1 if there is none. No line of
// blanks only comes about.
func foldPoint(text string, room int) int {
	at := -1
	inBlank := true
	for i := range len(text) {
		blank := text[i] == ' ' || text[i] == '\t'
		if blank && !inBlank {
			if i > room && at >= 0 {
				return at
			}
			if strings.Trim(text[i:], " \t") == "" {
				return at
			}
			at = i
			if i > room {
				return at
			}
		}
		inBlank = blank
	}
	return at
}

// Wrap breaks the lines of a header that are longer than 998 octets: at blanks
// where it can, else anywhere, as Postfix does; header is not changed.
func Wrap(header []byte) []byte {
	out := make([]byte, 0, len(header)+64)
	for line := range strings.SplitAfterSeq(string(header), "\n") {
		text := strings.TrimSuffix(line, "\r\n")
		if len(text) <= lineMost {
			out = append(out, line...)
			continue
		}
		start := len(out)
		out = appendFolded(out, text, 0)
		hard := strings.Split(string(out[start:]), "\r\n")
		out = out[:start]
		for i, part := range hard {
			if i > 0 {
				out = append(out, "\r\n"...)
			}
			for len(part) > lineMost {
				cut := runeStart(part, lineMost-1)
				out = append(append(out, part[:cut]...), "\r\n "...)
				part = part[cut:]
			}
			out = append(out, part...)
		}
		out = append(out, line[len(text):]...)
	}
	return out
}

// runeStart is the greatest index up to i that does not split a character.
func runeStart(s string, i int) int {
	for j := i; j > i-utf8.UTFMax && j > 0; j-- {
		if utf8.RuneStart(s[j]) {
			return j
		}
	}
	return i
}

// DecodeText decodes the encoded words of a value (RFC 2047). What cannot be
// decoded stays as it is; control characters become blanks.
func DecodeText(s string) string {
	if strings.Contains(s, "=?") {
		d := mime.WordDecoder{CharsetReader: charset.Reader}
		if t, err := d.DecodeHeader(s); err == nil {
			s = t
		}
	}
	return printable(s)
}

// printable replaces controls by blanks and what is not UTF-8 by U+FFFD.
func printable(s string) string {
	if strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

func unprintable(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }

// EncodeText gives s as the value of an unstructured field in ASCII: as it is,
// or as encoded words where it holds something else or could be mistaken.
func EncodeText(s string) string {
	s = printable(s)
	if isASCII(s) && !strings.Contains(s, "=?") && !longWord(s) {
		return s
	}
	return encodeWords(s)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// longWord reports whether s has a word that no folding could fit in a line.
func longWord(s string) bool {
	run := 0
	for i := range len(s) {
		run++
		if s[i] == ' ' || s[i] == '\t' {
			run = 0
		}
		if run > lineMost/2 {
			return true
		}
	}
	return false
}

// encodeWords gives s as encoded words of at most 75 octets, a blank between,
// none of which splits a character. It uses the shorter of Q and B; Q with the
// few characters that are allowed in a phrase too.
func encodeWords(s string) string {
	label := "utf-8"
	if !utf8.ValidString(s) {
		label = "unknown-8bit" // RFC 1428
	}
	plain := 0
	for i := range len(s) {
		if qPlain(s[i]) {
			plain++
		}
	}
	useQ := plain+3*(len(s)-plain) <= (len(s)+2)/3*4
	room := 75 - len("=??q??=") - len(label)
	var b strings.Builder
	for s != "" {
		n := 0
		for used := 0; n < len(s); {
			_, size := utf8.DecodeRuneInString(s[n:])
			for _, c := range []byte(s[n : n+size]) {
				if qPlain(c) {
					used++
				} else {
					used += 3
				}
			}
			if useQ && used > room || !useQ && (n+size+2)/3*4 > room {
				break
			}
			n += size
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		writeWord(&b, label, s[:n], useQ)
		s = s[n:]
	}
	return b.String()
}

func writeWord(b *strings.Builder, label, s string, q bool) {
	b.WriteString("=?" + label)
	if q {
		b.WriteString("?q?")
		for _, c := range []byte(s) {
			switch {
			case c == ' ':
				b.WriteByte('_')
			case qPlain(c):
				b.WriteByte(c)
			default:
				const hex = "0123456789ABCDEF"
				b.Write([]byte{'=', hex[c>>4], hex[c&15]})
			}
		}
	} else {
		b.WriteString("?b?" + base64.StdEncoding.EncodeToString([]byte(s)))
	}
	b.WriteString("?=")
}

// qPlain tells the octets that cost one octet in Q encoding of a phrase.
func qPlain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == ' ' || c == '!' || c == '*' || c == '+' || c == '-' || c == '/'
}
