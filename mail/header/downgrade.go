package header

import (
	"encoding/binary"
	"mime"
	"strings"
	"unicode/utf8"

	"behalf/mail"
)

// NeedsUTF8 reports whether b holds octets over 127, so that as a header it
// asks for SMTPUTF8 (RFC 6531).
func NeedsUTF8(b []byte) bool {
	const high = 0x8080808080808080
	for len(b) >= 8 {
		if binary.NativeEndian.Uint64(b)&high != 0 {
			return true
		}
		b = b[8:]
	}
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

// Downgrade gives the header in ASCII for a hop without SMTPUTF8: names and
// texts as encoded words (RFC 2047), parameters as RFC 2231 has them. Fields in
// ASCII keep every byte; header is not changed. An address whose local part is
// not ASCII has no such form: that is a [*mail.Failure], 553 5.6.7.
func Downgrade(header []byte) ([]byte, error) {
	if !NeedsUTF8(header) {
		return header, nil
	}
	out := make([]byte, 0, len(header)+len(header)/2)
	for rest := header; len(rest) > 0; {
		n := fieldLen(rest)
		field := rest[:n]
		rest = rest[n:]
		name, body, ok := strings.Cut(string(field), ":")
		if !NeedsUTF8(field) {
			out = append(out, field...)
			continue
		}
		if !ok || !isASCII(name) { // not a field at all
			out = append(out, scrub(string(field))...)
			continue
		}
		value, err := downgrade(strings.ToLower(name), Unfold(body))
		if err != nil {
			return nil, err
		}
		out = AppendField(out, name, value)
	}
	return out, nil
}

func downgrade(name, value string) (string, error) {
	switch name {
	case "from", "sender", "reply-to", "to", "cc", "bcc", "resent-from", "resent-sender", "resent-to", "resent-cc",
		"resent-bcc", "resent-reply-to", "disposition-notification-to", "return-receipt-to", "errors-to":
		return downgradeList(name, value)
	case "content-type", "content-disposition":
		return downgradeParams(value), nil
	case "message-id", "in-reply-to", "references", "resent-message-id", "content-id":
		return "", cannotCarry("the %s field holds characters outside ASCII", name)
	case "received", "return-path", "date", "resent-date", "mime-version", "content-transfer-encoding",
		"dkim-signature", "authentication-results", "arc-seal", "arc-message-signature", "arc-authentication-results":
		return scrub(value), nil
	}
	if strings.HasPrefix(name, "list-") && strings.Contains(value, "<") {
		return percent(value), nil
	}
	if !utf8.ValidString(value) {
		return encodeWords(value), nil
	}
	return EncodeText(DecodeText(value)), nil
}

func cannotCarry(format string, args ...any) *mail.Failure {
	f := mail.Fail(553, mail.Enhanced{5, 6, 7}, mail.OfMessage, mail.ReasonCannotCarry, format, args...)
	f.Text += ", and the next server does not take internationalised mail (SMTPUTF8)"
	return f
}

func downgradeList(name, value string) (string, error) {
	list, err := ParseAddressList(value)
	if err != nil {
		return "", cannotCarry("the %s field cannot be read (%v)", name, err)
	}
	var b strings.Builder
	for i, m := range list {
		if !m.Address.ASCII() {
			return "", cannotCarry("the address %s in the %s field is not ASCII", m.Address, name)
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(m.String())
	}
	return b.String(), nil
}

func downgradeParams(value string) string {
	media, params := ContentType(value)
	if s := mime.FormatMediaType(media, params); s != "" {
		return strings.ReplaceAll(s, "; ", ";\r\n ")
	}
	return scrub(value)
}

// scrub puts a question mark for each octet over 127.
func scrub(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 0x80 {
			b[i] = '?'
		}
	}
	return string(b)
}

// percent encodes the octets over 127 of the URLs in a List field.
func percent(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(s) {
		if c < 0x80 {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}
