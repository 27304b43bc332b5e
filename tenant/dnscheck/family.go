package dnscheck

import (
	_ "embed"
	"strings"
)

// familyText is domains of mailboxes that one of the big receivers gives to
// everybody, each with its family. Domains that they only run for others, as
// Yahoo does for some access providers, and those of Yahoo Japan, which is
// another company, are not there.
//
//go:embed family.txt
var familyText string

// Family is the big receiver whose consumer mailboxes stand at domain: google,
// microsoft, yahoo or apple; empty for any other. A company's own domain is never
// of a family, whoever keeps its mailboxes: the receivers' rules for bulk mail
// are for the consumer domains.
func Family(domain string) string {
	key := "\n" + strings.ToLower(strings.TrimSuffix(domain, ".")) + " "
	i := strings.Index(familyText, key)
	if i < 0 {
		return ""
	}
	family, _, _ := strings.Cut(familyText[i+len(key):], "\n")
	return family
}
