package dnscheck

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/publicsuffix"
)

func TestFamily(t *testing.T) {
	for d, want := range map[string]string{
		"gmail.com": "google", "GoogleMail.com.": "google",
		"outlook.com": "microsoft", "hotmail.co.uk": "microsoft", "live.nl": "microsoft", "msn.com": "microsoft",
		"yahoo.com": "yahoo", "yahoo.co.uk": "yahoo", "ymail.com": "yahoo", "rocketmail.com": "yahoo", "aol.com": "yahoo",
		"icloud.com": "apple", "me.com": "apple", "mac.com": "apple",
		// Nobody else's, whatever it looks like.
		"": "", "com": "", "acme.example": "", "notgmail.com": "", "mail.gmail.com": "", "gmail.com.evil.example": "", "yahoo.co.jp": "",
		"gmail.com google\nicloud.com": "", "#": "", "google": "", " google": "",
	} {
		if got := Family(d); got != want {
			t.Errorf("Family(%q) = %q, want %q", d, got, want)
		}
	}
}

// TestFamilyList: each line is a registrable domain and a family, each domain
// stands there once, and all are free mailboxes.
func TestFamilyList(t *testing.T) {
	seen := map[string]bool{}
	for line := range strings.Lines(familyText) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		d, family, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if !ok || seen[d] || !slices.Contains([]string{"google", "microsoft", "yahoo", "apple"}, family) {
			t.Errorf("line %q", line)
		}
		seen[d] = true
		if org, err := publicsuffix.EffectiveTLDPlusOne(d); err != nil || org != d {
			t.Errorf("%s is not a registrable domain: %s, %v", d, org, err)
		}
		if Family(d) != family || !Freemail(d) {
			t.Errorf("%s: family %q, free mailboxes %v", d, Family(d), Freemail(d))
		}
	}
	if len(seen) < 150 {
		t.Errorf("%d domains", len(seen))
	}
}
