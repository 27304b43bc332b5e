package dnscheck

import (
	"strings"

	"behalf/tenant"
)

// record is a DMARC policy record (RFC 9989, section 4.7).
type record struct {
	policy tenant.Policy // p
	sub    tenant.Policy // sp; empty: as policy
	none   tenant.Policy // np; empty: as sub
	psd    string        // y, n or u
	adkim  tenant.Mode
	aspf   tenant.Mode
	text   string
}

// parseDMARC reads a record as receivers do: tags in any order after v, blanks
// and unknown tags ignored, the first of two equal tags taken. A record
// without a usable p counts as p=none if it asks for reports, else as none at
// all.
func parseDMARC(text string) (record, bool) {
	r := record{psd: "u", adkim: tenant.Relaxed, aspf: tenant.Relaxed, text: text}
	first, rest, _ := strings.Cut(text, ";")
	if name, value := tag(first); name != "v" || value != "DMARC1" {
		return r, false
	}
	tags := map[string]string{}
	for part := range strings.SplitSeq(rest, ";") {
		name, value := tag(part)
		if _, again := tags[name]; name != "" && !again {
			tags[name] = value
		}
	}
	r.policy, r.sub, r.none = policy(tags["p"]), policy(tags["sp"]), policy(tags["np"])
	if r.policy == "" {
		if !strings.Contains(strings.ToLower(tags["rua"]), "mailto:") {
			return r, false
		}
		r.policy, r.sub, r.none = tenant.PolicyNone, "", ""
	}
	if p := strings.ToLower(tags["psd"]); p == "y" || p == "n" {
		r.psd = p
	}
	if strings.EqualFold(tags["adkim"], "s") {
		r.adkim = tenant.Strict
	}
	if strings.EqualFold(tags["aspf"], "s") {
		r.aspf = tenant.Strict
	}
	return r, true
}

func tag(s string) (name, value string) {
	name, value, _ = strings.Cut(s, "=")
	return strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
}

func policy(s string) tenant.Policy {
	switch p := tenant.Policy(strings.ToLower(s)); p {
	case tenant.PolicyNone, tenant.PolicyQuarantine, tenant.PolicyReject:
		return p
	}
	return ""
}

// forBelow is the policy for a domain below that of the record; exists says
// whether that domain does.
func (r record) forBelow(exists bool) tenant.Policy {
	if !exists && r.none != "" {
		return r.none
	}
	if r.sub != "" {
		return r.sub
	}
	return r.policy
}
