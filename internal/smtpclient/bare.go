package smtpclient

import (
	"strings"

	"behalf/mail"
)

// withoutAddresses takes the addresses of the transaction out of a reply in
// lower case: a tenant chose them, and they could be anything.
func (s situation) withoutAddresses(text string) string {
	if s.About == nil || !strings.Contains(text, "@") {
		return text
	}
	text = withoutAddress(text, s.About.From)
	for i := range s.About.To {
		text = withoutAddress(text, s.About.To[i].To)
	}
	return text
}

func withoutAddress(text string, a mail.Address) string {
	if a.Domain == "" { // no path, or postmaster
		return text
	}
	text = strings.ReplaceAll(text, strings.ToLower(a.String()), "")
	return strings.ReplaceAll(text, strings.ToLower(a.Local+"@"+a.Domain), "")
}

// withoutPaths leaves out what stands in angle brackets, where a '>' in a quoted
// string does not close.
func withoutPaths(text string) string {
	var b strings.Builder
	for {
		open := strings.IndexByte(text, '<')
		if open < 0 {
			break
		}
		end := pathEnd(text[open:])
		if end < 0 {
			break
		}
		b.WriteString(text[:open])
		text = text[open+end+1:]
	}
	if b.Len() == 0 {
		return text
	}
	return b.String() + text
}

// pathEnd is the index of the '>' that closes the path which s begins with; -1
// when there is none.
func pathEnd(s string) int {
	quoted := false
	for i := 1; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = i == 1 // a quoted local part comes first
		case s[i] == '>' && !quoted:
			return i
		}
	}
	return -1
}
