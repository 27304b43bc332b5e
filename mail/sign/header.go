package sign

import (
	"bytes"
	"slices"
	"strings"
)

// guarded fields are signed once more than they occur.
var guarded = []string{"From", "Sender", "Reply-To", "To", "Cc", "Subject", "Date", "Message-ID", "In-Reply-To", "References",
	"MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "List-Unsubscribe", "List-Unsubscribe-Post", "Feedback-ID"}

// covered fields are signed where they occur; mailing lists and forwarders add
// them with good reason.
var covered = []string{"Resent-Date", "Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc", "Resent-Message-ID",
	"List-Id", "List-Help", "List-Subscribe", "List-Post", "List-Owner", "List-Archive", "Content-ID", "Content-Description",
	"Auto-Submitted", "Precedence", "Organization"}

// places finds the place of a name in lower case among guarded and covered.
var places = func() map[string]int {
	m := make(map[string]int, len(guarded)+len(covered))
	for i, name := range slices.Concat(guarded, covered) {
		m[strings.ToLower(name)] = i
	}
	return m
}()

const (
	maxPlaces   = 40
	longestName = 25 // of those that are signed
)

// place is that of a field by its name as written; -1 for one that is not signed.
func place(name []byte) int {
	var lower [longestName]byte
	if len(name) > len(lower) {
		return -1
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	if p, ok := places[string(lower[:len(name)])]; ok {
		return p
	}
	return -1
}

// field is a field that may be signed.
type field struct {
	raw    []byte
	before int // the one of the same name above it, counted from 1; 0: none
}

// fields appends the fields of a header that may be signed to list, up to the
// empty line, and gives the last of each place, counted from 1.
func fields(list []field, header []byte) (all []field, last [maxPlaces]int) {
	for rest := header; len(rest) > 0 && !bytes.HasPrefix(rest, []byte("\r\n")); {
		end := 0
		for {
			i := bytes.IndexByte(rest[end:], '\n')
			if i < 0 {
				end = len(rest)
				break
			}
			end += i + 1
			if end == len(rest) || rest[end] != ' ' && rest[end] != '\t' {
				break
			}
		}
		if colon := bytes.IndexByte(rest[:end], ':'); colon > 0 {
			if p := place(bytes.TrimRight(rest[:colon], " \t")); p >= 0 {
				list = append(list, field{rest[:end], last[p]})
				last[p] = len(list)
			}
		}
		rest = rest[end:]
	}
	return list, last
}

// canonicalHeader appends the names for h= to names, and the canonical form of
// the fields they stand for to canon: of each name the last occurrence first
// (section 5.4.2).
func canonicalHeader(names []string, canon, header []byte, exclude []string) ([]string, []byte) {
	var room [32]field
	all, last := fields(room[:0], header)
	for p := range len(guarded) + len(covered) {
		name, once := name(p)
		if slices.ContainsFunc(exclude, func(x string) bool { return strings.EqualFold(x, name) }) {
			continue
		}
		for i := last[p]; i > 0; i = all[i-1].before {
			names = append(names, name)
			canon = appendRelaxed(canon, all[i-1].raw)
		}
		if once {
			names = append(names, name)
		}
	}
	return names, canon
}

// name is that of a place, and whether it is guarded.
func name(p int) (string, bool) {
	if p < len(guarded) {
		return guarded[p], true
	}
	return covered[p-len(guarded)], false
}

// appendRelaxed appends a field in relaxed canonicalisation (section 3.4.2).
func appendRelaxed(out, raw []byte) []byte {
	colon := bytes.IndexByte(raw, ':')
	for _, c := range bytes.TrimRight(raw[:colon], " \t") {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		out = append(out, c)
	}
	out = append(out, ':')
	blank, text := false, false
	for _, c := range raw[colon+1:] {
		switch c {
		case ' ', '\t':
			blank = true
		case '\r', '\n':
		default:
			if blank && text {
				out = append(out, ' ')
			}
			blank, text = false, true
			out = append(out, c)
		}
	}
	return append(out, "\r\n"...)
}
