package dnscheck

import (
	_ "embed"
	"strings"
)

// freemailText is domains where everybody can have a mailbox, one a line; those
// of familyText are such too.
//
//go:embed freemail.txt
var freemailText string

// Freemail reports whether domain, or one above it, is that of a big provider
// of free mailboxes.
func Freemail(domain string) bool {
	for d := strings.ToLower(strings.TrimSuffix(domain, ".")); strings.Contains(d, "."); _, d, _ = strings.Cut(d, ".") {
		if strings.Contains(freemailText, "\n"+d+"\n") || Family(d) != "" {
			return true
		}
	}
	return false
}
