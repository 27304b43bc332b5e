package header

import (
	"errors"
	"fmt"
	"strings"

	"behalf/mail"
)

// Mailbox is an address with the name shown for it (RFC 5322, section 3.4).
type Mailbox struct {
	Name    string // decoded, without control characters
	Address mail.Address
}

// String is the mailbox as it stands in a header field.
func (m Mailbox) String() string { return FormatMailbox(m.Name, m.Address) }

// ParseFrom reads the value of a From field that names exactly one mailbox, as
// anything else could be read differently by whoever checks it next. Groups
// and lists are refused. The name is decoded.
func ParseFrom(value string) (addr mail.Address, name string, err error) {
	p := lexer{s: Unfold(value)}
	m, group, err := p.entry()
	switch {
	case err != nil:
		return addr, "", err
	case group:
		return addr, "", errors.New("a group of addresses cannot stand in From; give one mailbox")
	case p.peek() == ',':
		return addr, "", errors.New("there are several mailboxes; give one (a comma in a display name must be quoted)")
	case p.i < len(p.s):
		return addr, "", fmt.Errorf("text after the address in From: %.40q", p.s[p.i:])
	}
	return m.Address, m.Name, nil
}

// ParseAddressList reads the value of To, Cc, Reply-To and the like. Groups
// give their members. Entries that cannot be read are left out; the error is
// the first of theirs and stands beside what could be read.
func ParseAddressList(value string) ([]Mailbox, error) {
	p := lexer{s: Unfold(value)}
	var list []Mailbox
	var first error
	for {
		for p.skip() == nil && (p.peek() == ',' || p.peek() == ';') {
			p.i++
		}
		if p.i >= len(p.s) {
			return list, first
		}
		start := p.i
		m, group, err := p.entry()
		next := p.peek()
		if err == nil && !group && next != 0 && next != ',' && next != ';' {
			err = fmt.Errorf("text after the address: %.40q", p.s[p.i:])
		}
		switch {
		case err != nil:
			if first == nil {
				first = err
			}
			p.i = max(p.i, start)
			p.resync()
		case !group:
			list = append(list, m)
		}
	}
}

// FormatMailbox gives name and addr as they stand in a header field: the name
// plain, quoted or as encoded words, whichever it needs. Control characters in
// the name become blanks. The result can be folded at its blanks.
func FormatMailbox(name string, addr mail.Address) string {
	name = strings.Join(strings.Fields(printable(name)), " ")
	switch {
	case name == "":
		return addr.String()
	case !isASCII(name) || strings.Contains(name, "=?") || longWord(name):
		name = encodeWords(name)
	case !isPhrase(name):
		name = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
	}
	return name + " <" + addr.String() + ">"
}

func isAtext(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c >= 0x80 || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// isPhrase reports whether s is words of atoms with blanks between.
func isPhrase(s string) bool {
	for i := range len(s) {
		if !isAtext(s[i]) && s[i] != ' ' {
			return false
		}
	}
	return true
}

// lexer reads addresses from an unfolded value.
type lexer struct {
	s       string
	i       int
	comment string // the last one met
}

func (p *lexer) peek() byte {
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

// skip passes blanks and comments, which may nest.
func (p *lexer) skip() error {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\t':
			p.i++
		case '(':
			if err := p.skipComment(); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

func (p *lexer) skipComment() error {
	var text strings.Builder
	depth := 0
	for ; p.i < len(p.s); p.i++ {
		c := p.s[p.i]
		switch c {
		case '\\':
			p.i++
			if p.i < len(p.s) {
				text.WriteByte(p.s[p.i])
			}
			continue
		case '(':
			depth++
			if depth == 1 {
				continue
			}
		case ')':
			depth--
			if depth == 0 {
				p.i++
				p.comment = text.String()
				return nil
			}
		}
		text.WriteByte(c)
	}
	return errors.New("a comment in the address does not end")
}

// resync moves to the next comma or semicolon outside quotes and comments.
func (p *lexer) resync() {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ',', ';':
			return
		case '"':
			if _, err := p.quoted(); err != nil {
				p.i = len(p.s)
			}
		case '(':
			if p.skipComment() != nil {
				p.i = len(p.s)
			}
		default:
			p.i++
		}
	}
}

func (p *lexer) quoted() (string, error) {
	var b strings.Builder
	for p.i++; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; c {
		case '"':
			p.i++
			return b.String(), nil
		case '\\':
			p.i++
			if p.i < len(p.s) {
				b.WriteByte(p.s[p.i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", errors.New("a quoted string in the address does not end")
}

// words is what may be a display name or a local part.
type words struct {
	n      int
	one    string   // the first
	all    []string // if there are more
	quoted bool     // any of them was
	dotted bool     // no blank stands between them, so they may be a local part
	dot    bool     // they end in a dot
}

func (w *words) add(s string) {
	switch w.n++; w.n {
	case 1:
		w.one = s
	case 2:
		w.all = append(make([]string, 0, 4), w.one, s)
	default:
		w.all = append(w.all, s)
	}
	if s != "" {
		w.dot = s[len(s)-1] == '.'
	}
}

// join gives the words with sep between.
func (w *words) join(sep string) string {
	if w.n < 2 {
		return w.one
	}
	return strings.Join(w.all, sep)
}

// words reads atoms, dots and quoted strings up to a special character.
func (p *lexer) words() (w words, err error) {
	w.dotted = true
	for {
		before := p.i
		if err := p.skip(); err != nil {
			return w, err
		}
		if blank := p.i > before; blank && w.n > 0 && isWordStart(p.peek()) {
			w.dotted = false
		}
		var s string
		switch c := p.peek(); {
		case c == '"':
			if s, err = p.quoted(); err != nil {
				return w, err
			}
			w.quoted = true
			if w.n > 0 && !w.dot {
				w.dotted = false
			}
		case p.i < len(p.s) && isWordStart(c):
			start := p.i
			for p.i < len(p.s) && (isAtext(p.s[p.i]) || p.s[p.i] == '.') {
				p.i++
			}
			s = p.s[start:p.i]
			if w.quoted && !strings.HasPrefix(s, ".") {
				w.dotted = false
			}
		default:
			return w, nil
		}
		w.add(s)
	}
}

func isWordStart(c byte) bool { return isAtext(c) || c == '.' || c == '"' }

// entry reads a mailbox, or a group up to its colon.
func (p *lexer) entry() (m Mailbox, group bool, err error) {
	p.comment = ""
	w, err := p.words()
	if err != nil {
		return m, false, err
	}
	switch p.peek() {
	case '<':
		m.Name = DecodeText(w.join(" "))
		m.Address, err = p.angle()
	case '@':
		m.Address, err = p.spec(w)
		if err == nil {
			err = p.skip()
			m.Name = DecodeText(strings.Trim(p.comment, " \t"))
		}
	case ':':
		p.i++
		return m, true, nil
	default:
		return m, false, fmt.Errorf("no address in %.60q; want name <local@domain>", p.s)
	}
	if err != nil {
		return m, false, err
	}
	m.Name = strings.Trim(m.Name, " ")
	return m, false, p.skip()
}

// angle reads "<local@domain>".
func (p *lexer) angle() (a mail.Address, err error) {
	p.i++
	w, err := p.words()
	if err != nil {
		return a, err
	}
	if p.peek() != '@' {
		return a, fmt.Errorf("no local@domain between < and > in %.60q", p.s)
	}
	if a, err = p.spec(w); err != nil {
		return a, err
	}
	if err := p.skip(); err != nil {
		return a, err
	}
	if p.peek() != '>' {
		return a, fmt.Errorf("no closing > in %.60q", p.s)
	}
	p.i++
	return a, nil
}

// spec reads "@domain" after a local part.
func (p *lexer) spec(w words) (a mail.Address, err error) {
	if !w.dotted || w.n == 0 {
		return a, fmt.Errorf("bad local part before @ in %.60q; quote a display name that holds special characters", p.s)
	}
	p.i++
	if err := p.skip(); err != nil {
		return a, err
	}
	start := p.i
	if p.peek() == '[' {
		for p.i < len(p.s) && p.s[p.i] != ']' {
			p.i++
		}
		p.i = min(p.i+1, len(p.s))
	} else {
		for p.i < len(p.s) && (isAtext(p.s[p.i]) || p.s[p.i] == '.') {
			p.i++
		}
	}
	domain, err := mail.ParseDomain(p.s[start:p.i])
	if err != nil {
		return a, err
	}
	local := w.join("")
	if !w.quoted {
		return mail.ParseAddress(local + "@" + domain)
	}
	// Through the one parser that keeps controls and overlong parts out.
	return mail.ParseAddress(mail.Address{Local: local, Domain: domain}.String())
}
