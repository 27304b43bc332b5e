package dnscheck

import (
	"context"
	"fmt"
	"strings"

	"behalf/mail"
	"behalf/tenant"
)

// Status says how a record stands.
type Status string

// The statuses.
const (
	OK      Status = "ok"
	Missing Status = "missing"
	Wrong   Status = "wrong"
	Unknown Status = "unknown" // the DNS could not say
)

// Record is one record that a tenant must publish.
type Record struct {
	Purpose string `json:"purpose"` // dkim, return-path-mx, return-path-spf, dmarc
	Type    string `json:"type"`
	Name    string `json:"name"`  // without a final dot
	Value   string `json:"value"` // as in a zone file, TXT without quotes
	Found   string `json:"found,omitempty"`
	Status  Status `json:"status"`
	Help    string `json:"help"` // a sentence for who edits the DNS
}

// Records lists what must be published for a tenant's domain, with what the DNS
// shows now (without the patience that Published has).
func (c *Checker) Records(ctx context.Context, t mail.TenantID, d *tenant.Domain) []Record {
	var rs []Record
	for _, k := range d.DKIM {
		rs = append(rs, c.keyRecord(ctx, d, k))
	}
	return append(rs, c.mxRecord(ctx, d), c.spfRecord(ctx, d), c.dmarcRecord(ctx, d))
}

func (c *Checker) keyRecord(ctx context.Context, d *tenant.Domain, k tenant.DKIMKey) Record {
	name := KeyName(mail.Selector{Domain: d.Name, Name: k.Selector})
	r := Record{Purpose: "dkim", Type: "TXT", Name: name, Value: k.Record()}
	txt, ans, err := c.dns.TXT(ctx, name)
	if err != nil {
		return r.unknown()
	}
	r.Status, r.Found = compareKey(txt, ans.NXDomain, k.Public)
	if r.Status == revoked {
		r.Status = Wrong
	}
	return r.help(
		"Receivers find the key that signs your mail here.",
		"Add this TXT record; without it mail cannot be signed as "+d.Name+".",
		"Replace what stands at this name by this TXT record, as one value.")
}

func (c *Checker) mxRecord(ctx context.Context, d *tenant.Domain) Record {
	r := Record{Purpose: "return-path-mx", Type: "MX", Name: d.ReturnPathHost(), Value: "10 " + c.platform.InboundHost + "."}
	s, _, err := c.checkMX(ctx, r.Name)
	if err != nil {
		return r.unknown()
	}
	r.Status, r.Found = s.status, s.found
	return r.help(
		"Bounces of your mail come back to this host.",
		"Add this MX record, so that bounces of your mail find their way back.",
		"Let this host have this MX record only, so that bounces find their way back.")
}

func (c *Checker) spfRecord(ctx context.Context, d *tenant.Domain) Record {
	r := Record{Purpose: "return-path-spf", Type: "TXT", Name: d.ReturnPathHost(), Value: "v=spf1 " + c.platform.SPF + " ~all"}
	s, _, err := c.checkSPF(ctx, r.Name)
	if err != nil {
		return r.unknown()
	}
	r.Status, r.Found = s.status, s.found
	return r.help(
		"It lets our servers send with this return path.",
		"Add this TXT record at the return-path host; the SPF record of "+d.Name+" itself need not be changed.",
		"Let this be the only SPF record of this host, or add what is missing to it.")
}

func (c *Checker) dmarcRecord(ctx context.Context, d *tenant.Domain) Record {
	r := Record{Purpose: "dmarc", Type: "TXT", Name: "_dmarc." + d.Name, Value: "v=DMARC1; p=none"}
	if c.platform.DMARCReport != "" {
		r.Value += "; rua=mailto:" + c.platform.DMARCReport
	}
	p, err := c.DMARC(ctx, d.Name)
	switch {
	case err != nil:
		return r.unknown()
	case p.Domain == "":
		r.Status, r.Found = Missing, "no DMARC record"
	default:
		r.Status, r.Found = OK, fmt.Sprintf("%s at _dmarc.%s", p.Record, p.Domain)
	}
	return r.help(
		"It says what receivers shall do with mail that is not authentic.",
		"Add this TXT record; big providers ask for one. Raise the policy once all your mail passes.",
		"")
}

func (r Record) unknown() Record {
	r.Status, r.Help = Unknown, "The DNS could not be asked for this record just now; look again in a minute."
	return r
}

// help picks the sentence for the record's status.
func (r Record) help(ok, missing, wrong string) Record {
	switch r.Status {
	case OK:
		r.Help = ok
	case Missing:
		r.Help = missing
	default:
		r.Help = wrong
	}
	return r
}

// maxString is the longest string of a TXT record (RFC 1035, section 3.3.14).
const maxString = 255

// Zone is records as a fragment of a zone file (RFC 1035, section 5).
func Zone(rs []Record) string {
	var b strings.Builder
	for _, r := range rs {
		value := r.Value
		if r.Type == "TXT" {
			value = quoteTXT(value)
		}
		fmt.Fprintf(&b, "; %s: %s\n%s. 3600 IN %s %s\n", r.Purpose, r.Status, r.Name, r.Type, value)
	}
	return b.String()
}

// quoteTXT writes a value as quoted strings of at most 255 octets each.
func quoteTXT(s string) string {
	var parts []string
	for len(s) > maxString {
		parts = append(parts, quote(s[:maxString]))
		s = s[maxString:]
	}
	return strings.Join(append(parts, quote(s)), " ")
}

func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(&b, `\%03d`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
