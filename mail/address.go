package mail

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Address is one mailbox, local part and domain (RFC 5321, section 4.1.2).
// Local is the unquoted content; Domain is lower case with internationalised
// labels in their ASCII form, or an address literal in brackets. The zero
// Address is the null path "<>".
//
// An Address is made by [ParseAddress] or [ParsePath] and so holds no control
// characters, which is what keeps it from becoming a second SMTP command.
type Address struct {
	Local  string `json:"local" cbor:"1,keyasint"`
	Domain string `json:"domain" cbor:"2,keyasint"`
}

// Limits of RFC 5321, section 4.5.3.1, in octets.
const (
	MaxLocal  = 64
	MaxDomain = 255
	MaxPath   = 254 // without the angle brackets
)

// ErrAddress is wrapped by every error of the address parsers.
var ErrAddress = errors.New("bad address")

func badAddress(s, why string) error {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return fmt.Errorf("%w %q: %s", ErrAddress, s, why)
}

// beforeBracket is s up to its first '>' behind a quoted local part.
func beforeBracket(s string) string {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = i == 0
		case s[i] == '>' && !quoted:
			return s[:i]
		}
	}
	return s
}

// ParseAddress reads local@domain, where the local part may be a quoted string.
func ParseAddress(s string) (Address, error) {
	a, rest, err := parseMailbox(s)
	if err != nil {
		return Address{}, err
	}
	if rest != "" {
		return Address{}, badAddress(s, "text after the domain")
	}
	return a, nil
}

// ParsePath reads the argument of MAIL FROM or RCPT TO from its opening bracket
// and returns what follows the closing one. It takes "<>" (the null path), drops
// a source route, as RFC 5321 appendix C asks, and takes "<postmaster>" without
// a domain, as section 4.1.1.3 demands; that Address has an empty Domain.
func ParsePath(s string) (a Address, rest string, err error) {
	if !strings.HasPrefix(s, "<") {
		return a, s, badAddress(s, "must begin with <")
	}
	p := s[1:]
	if strings.HasPrefix(p, ">") {
		return Address{}, p[1:], nil
	}
	if strings.HasPrefix(p, "@") {
		i := strings.IndexByte(p, ':')
		if i < 0 {
			return a, s, badAddress(s, "source route without a colon")
		}
		for hop := range strings.SplitSeq(p[:i], ",") {
			if _, err := parseDomain(strings.TrimPrefix(hop, "@")); err != nil || !strings.HasPrefix(hop, "@") {
				return a, s, badAddress(s, "bad source route")
			}
		}
		p = p[i+1:]
	}
	if len(p) > len("postmaster") && strings.EqualFold(p[:len("postmaster")], "postmaster") && p[len("postmaster")] == '>' {
		return Address{Local: p[:len("postmaster")]}, p[len("postmaster")+1:], nil
	}
	box := beforeBracket(p) // alone, so that an error quotes no more than it
	a, left, err := parseMailbox(box)
	if err != nil {
		return Address{}, s, err
	}
	if left != "" || len(box) == len(p) {
		return Address{}, s, badAddress(s, "no closing >")
	}
	return a, p[len(box)+1:], nil
}

// parseMailbox reads a mailbox up to a '>' or the end.
func parseMailbox(s string) (a Address, rest string, err error) {
	local, rest, err := parseLocal(s)
	if err != nil {
		return a, s, err
	}
	if !strings.HasPrefix(rest, "@") {
		return a, s, badAddress(s, "no @ and domain")
	}
	rest = rest[1:]
	end := strings.IndexByte(rest, '>')
	if end < 0 {
		end = len(rest)
	}
	domain, err := parseDomain(rest[:end])
	if err != nil {
		return a, s, err
	}
	a = Address{Local: local, Domain: domain}
	// Quoting at most doubles the local part and adds two.
	if 2*len(local)+len("@")+len(domain)+2 > MaxPath && len(a.String()) > MaxPath {
		return Address{}, s, badAddress(s, "longer than 254 octets")
	}
	return a, rest[end:], nil
}

func parseLocal(s string) (local, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		local, rest, err = parseQuoted(s)
	} else {
		i := strings.IndexAny(s, "@>")
		if i < 0 {
			i = len(s)
		}
		local, rest = s[:i], s[i:]
		if !isDotString(local) {
			err = badAddress(s, "bad local part; quote it if it holds special characters")
		}
	}
	if err != nil {
		return "", s, err
	}
	if local == "" {
		return "", s, badAddress(s, "empty local part")
	}
	if len(local) > MaxLocal {
		return "", s, badAddress(s, "local part longer than 64 octets")
	}
	if !utf8.ValidString(local) {
		return "", s, badAddress(s, "local part is not UTF-8")
	}
	return local, rest, nil
}

func parseQuoted(s string) (local, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], nil
		case c == '\\':
			i++
			if i == len(s) || s[i] < ' ' || s[i] == 0x7f {
				return "", s, badAddress(s, "bad escape in the quoted local part")
			}
			b.WriteByte(s[i])
		case c < ' ' || c == 0x7f:
			return "", s, badAddress(s, "control character in the local part")
		default:
			b.WriteByte(c)
		}
	}
	return "", s, badAddress(s, "the quoted local part does not end")
}

func isAtext(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c >= 0x80 || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func isDotString(s string) bool {
	dot := true // just after a dot, or at the start
	for i := range len(s) {
		if s[i] == '.' {
			if dot {
				return false
			}
			dot = true
			continue
		}
		if !isAtext(s[i]) {
			return false
		}
		dot = false
	}
	return !dot
}

// ParseDomain reads a domain name or an address literal and returns it in the
// form that [Address] keeps: lower case, internationalised labels in ASCII.
func ParseDomain(s string) (string, error) { return parseDomain(s) }

func parseDomain(s string) (string, error) {
	if s == "" {
		return "", badAddress(s, "empty domain")
	}
	if len(s) > MaxDomain {
		return "", badAddress(s, "domain longer than 255 octets")
	}
	if strings.HasPrefix(s, "[") {
		return parseLiteral(s)
	}
	ascii := true
	for i := range len(s) {
		ascii = ascii && s[i] < 0x80
	}
	d := strings.ToLower(s)
	if !ascii {
		if !utf8.ValidString(s) {
			return "", badAddress(s, "domain is not UTF-8")
		}
		var err error
		if d, err = idna.Lookup.ToASCII(s); err != nil {
			return "", badAddress(s, "domain is not valid IDNA")
		}
	}
	for label := range strings.SplitSeq(d, ".") {
		if !isLabel(label) {
			return "", badAddress(s, "bad domain name")
		}
	}
	if len(d) > 253 {
		return "", badAddress(s, "domain name longer than 253 octets")
	}
	return d, nil
}

// isLabel allows the underscore, which RFC 5321 does not, because real hosts
// have it in their names.
func isLabel(l string) bool {
	if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
		return false
	}
	for i := range len(l) {
		c := l[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

func parseLiteral(s string) (string, error) {
	if !strings.HasSuffix(s, "]") {
		return "", badAddress(s, "address literal without ]")
	}
	in := s[1 : len(s)-1]
	if len(in) > 5 && strings.EqualFold(in[:5], "IPv6:") {
		ip, err := netip.ParseAddr(in[5:])
		if err != nil || !ip.Is6() || ip.Zone() != "" {
			return "", badAddress(s, "bad IPv6 address literal")
		}
		return "[IPv6:" + ip.String() + "]", nil
	}
	ip, err := netip.ParseAddr(in)
	if err != nil || !ip.Is4() {
		return "", badAddress(s, "bad address literal")
	}
	return "[" + ip.String() + "]", nil
}

// IsZero reports whether a is the null path.
func (a Address) IsZero() bool { return a == Address{} }

// String is the address as it stands in SMTP without its brackets, the local
// part quoted where it must be. The null path gives "".
func (a Address) String() string {
	if a.IsZero() {
		return ""
	}
	local := a.Local
	if !isDotString(local) {
		local = quoteLocal(local)
	}
	if a.Domain == "" {
		return local
	}
	return local + "@" + a.Domain
}

func quoteLocal(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}

// Path is the address in angle brackets, as MAIL FROM and RCPT TO want it.
func (a Address) Path() string { return "<" + a.String() + ">" }

// AppendPath appends what Path gives.
func (a Address) AppendPath(b []byte) []byte {
	b = append(b, '<')
	if isDotString(a.Local) {
		b = append(b, a.Local...)
	} else if !a.IsZero() {
		b = append(b, quoteLocal(a.Local)...)
	}
	if a.Domain != "" {
		b = append(append(b, '@'), a.Domain...)
	}
	return append(b, '>')
}

// ASCII reports whether the address can travel without SMTPUTF8 (RFC 6531).
func (a Address) ASCII() bool {
	for i := range len(a.Local) {
		if a.Local[i] >= 0x80 {
			return false
		}
	}
	return true
}

// Key is the form under which addresses are compared and counted: the local
// part in lower case too, as every mailbox provider of note treats it.
func (a Address) Key() string {
	if a.IsZero() {
		return ""
	}
	return strings.ToLower(a.Local) + "@" + a.Domain
}

// AppendKey appends what Key gives.
func (a Address) AppendKey(b []byte) []byte {
	if a.IsZero() {
		return b
	}
	return append(append(append(b, strings.ToLower(a.Local)...), '@'), a.Domain...)
}

// Equal reports whether a and b have the same Key.
func (a Address) Equal(b Address) bool { return a.Key() == b.Key() }

// MarshalText is String, for JSON and YAML.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is ParseAddress; empty text is the null path.
func (a *Address) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*a = Address{}
		return nil
	}
	v, err := ParseAddress(string(b))
	if err == nil {
		*a = v
	}
	return err
}
