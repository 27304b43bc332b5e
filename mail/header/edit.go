package header

import (
	"bytes"
	"fmt"
	"strings"

	"behalf/mail"
)

// CheckEdit says whether e is fit to be applied: a known operation, a field
// name, and a value without control characters except proper folds.
func CheckEdit(e mail.Edit) error {
	if e.Op < mail.EditRemove || e.Op > mail.EditPrefix {
		return fmt.Errorf("edit of %q: operation %d is not known", e.Name, e.Op)
	}
	if !ValidName(e.Name) {
		return fmt.Errorf("edit: %q is not a header field name", e.Name)
	}
	if len(e.Value) > MaxBytes/2 {
		return fmt.Errorf("edit of %s: the value is longer than %d KiB", e.Name, MaxBytes/2>>10)
	}
	for i := 0; i < len(e.Value); i++ {
		c := e.Value[i]
		if c == '\r' && isFold(e.Value[i:]) {
			i += 2
		} else if c < ' ' && c != '\t' || c == 0x7f {
			return fmt.Errorf("edit of %s: the value holds a control character", e.Name)
		}
	}
	return nil
}

// isFold reports whether s begins with a line end that a blank follows.
func isFold(s string) bool {
	return len(s) > 2 && s[0] == '\r' && s[1] == '\n' && (s[2] == ' ' || s[2] == '\t')
}

// rule is what the edits do to the fields of one name that the header has.
type rule struct {
	name   string
	remove bool   // all of them
	set    bool   // the first becomes value, the others go
	value  string // of set
	prefix string
	seen   bool // the first one has been met
}

type added struct{ name, value string }

// plan is a list of edits made ready for one pass over a header.
type plan struct {
	rules []rule
	front []added // new fields, in order
}

func (p *plan) rule(name string) *rule {
	for i := range p.rules {
		if strings.EqualFold(p.rules[i].name, name) {
			return &p.rules[i]
		}
	}
	p.rules = append(p.rules, rule{name: name})
	return &p.rules[len(p.rules)-1]
}

// dropAdded forgets new fields of that name, but for the first if keep is given.
func (p *plan) dropAdded(name string, keep *string) (kept bool) {
	n := 0
	for _, a := range p.front {
		if strings.EqualFold(a.name, name) {
			if keep == nil || kept {
				continue
			}
			kept, a.value = true, *keep
		}
		p.front[n] = a
		n++
	}
	p.front = p.front[:n]
	return kept
}

func (p *plan) add(e mail.Edit) {
	switch e.Op {
	case mail.EditAdd:
		p.front = append(p.front, added{e.Name, e.Value})
	case mail.EditRemove:
		r := p.rule(e.Name)
		r.remove, r.set, r.prefix = true, false, ""
		p.dropAdded(e.Name, nil)
	case mail.EditSet:
		r := p.rule(e.Name)
		switch {
		case p.dropAdded(e.Name, &e.Value):
			r.remove, r.set, r.prefix = true, false, ""
		case r.remove:
			p.front = append(p.front, added{e.Name, e.Value})
		default:
			r.set, r.value, r.prefix = true, e.Value, ""
		}
	case mail.EditPrefix:
		p.addPrefix(e)
	}
}

func (p *plan) addPrefix(e mail.Edit) {
	for i := range p.front {
		if strings.EqualFold(p.front[i].name, e.Name) {
			p.front[i].value = joinPrefix(e.Value, p.front[i].value)
			return
		}
	}
	switch r := p.rule(e.Name); {
	case r.remove:
		p.front = append(p.front, added{e.Name, e.Value})
	case r.set:
		r.value = joinPrefix(e.Value, r.value)
	default:
		r.prefix = e.Value + r.prefix
	}
}

// joinPrefix keeps a blank before an encoded word, which must stand alone.
func joinPrefix(prefix, value string) string {
	if strings.HasPrefix(value, "=?") && prefix != "" && !strings.HasSuffix(prefix, " ") {
		prefix += " "
	}
	return prefix + value
}

// Apply gives the header with the edits made, as if one after the other, in a
// single pass; header is not changed. New fields stand at the top in the order
// of their edits. Fields that no edit names keep every byte. Setting or
// prefixing a field that is not there adds it. Edits that [CheckEdit] refuses
// cannot do harm: line ends in a value become blanks, and one without a usable
// name is left out.
func Apply(header []byte, edits []mail.Edit) []byte {
	if len(edits) == 0 {
		return header
	}
	return AppendApplied(make([]byte, 0, len(header)+512), header, edits)
}

// AppendApplied is [Apply] behind b, which shares no octets with header.
func AppendApplied(b, header []byte, edits []mail.Edit) []byte {
	if len(edits) == 0 {
		return append(b, header...)
	}
	var p plan
	for _, e := range edits {
		if ValidName(e.Name) {
			p.add(e)
		}
	}
	for _, a := range p.front {
		b = AppendField(b, a.name, a.value)
	}
	for i := range p.rules {
		r := &p.rules[i]
		if (r.set || r.prefix != "") && !r.in(header) {
			b = AppendField(b, r.name, r.prefix+r.value)
		}
	}
	for rest := header; len(rest) > 0; {
		n := fieldLen(rest)
		b = p.edit(b, rest[:n])
		rest = rest[n:]
	}
	return b
}

// fieldLen is the length of the field, or the empty line and all after it, at
// the front of b.
func fieldLen(b []byte) int {
	if bytes.HasPrefix(b, []byte("\r\n")) {
		return len(b)
	}
	at := 0
	for {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return len(b)
		}
		at += i + 1
		if at == len(b) || b[at] != ' ' && b[at] != '\t' {
			return at
		}
	}
}

// is reports whether the rule is about the field of that name.
func (r *rule) is(name []byte) bool {
	return len(r.name) == len(name) && strings.EqualFold(r.name, string(name))
}

// in reports whether the header has the field of the rule.
func (r *rule) in(header []byte) bool {
	for len(header) > 0 {
		n := fieldLen(header)
		if colon := bytes.IndexByte(header[:n], ':'); colon >= 0 && r.is(header[:colon]) {
			return true
		}
		header = header[n:]
	}
	return false
}

// edit appends one field of the old header as the rules want it.
func (p *plan) edit(out, field []byte) []byte {
	colon := bytes.IndexByte(field, ':')
	if colon < 0 {
		return append(out, field...)
	}
	for i := range p.rules {
		r := &p.rules[i]
		if !r.is(field[:colon]) {
			continue
		}
		first := !r.seen
		r.seen = true
		switch {
		case r.set && first:
			return AppendField(out, string(field[:colon]), r.value)
		case r.set || r.remove:
			return out
		case r.prefix != "" && first:
			v := strings.TrimLeft(strings.TrimSuffix(string(field[colon+1:]), "\r\n"), " \t")
			return AppendField(out, string(field[:colon]), joinPrefix(r.prefix, v))
		}
		break
	}
	return append(out, field...)
}
