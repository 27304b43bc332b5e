package lab

import (
	"encoding/json"
	"net"
	"slices"
	"testing"
)

// Signature is what a verifier says of one DKIM signature.
type Signature struct {
	Domain, Selector, Algorithm, Detail string
	Pass                                bool
}

// Verdict is what a receiver concludes about a message. Verifiers that do not
// look at something leave it empty.
type Verdict struct {
	By        string
	DKIM      []Signature
	SPF       string
	SPFDomain string `json:"spf_domain"`
	DMARC     string
	DMARCDKIM bool `json:"dmarc_dkim"` // a DKIM signature that passed is aligned
	DMARCSPF  bool `json:"dmarc_spf"`  // so is SPF
}

// Passed reports whether the signature of a domain with an algorithm passed.
func (v *Verdict) Passed(domain, algorithm string) bool {
	return slices.ContainsFunc(v.DKIM, func(s Signature) bool { return s.Domain == domain && s.Algorithm == algorithm && s.Pass })
}

// Arrival is a message as a receiver got it.
type Arrival struct {
	Data, MailFrom, Client, Helo string
}

// Dkimpy asks dkimpy (both algorithms) and pyspf.
func Dkimpy(t testing.TB, dns string, a Arrival) *Verdict {
	t.Helper()
	host, port, _ := net.SplitHostPort(dns)
	out, err := Python(t, a.Data, "verify_dkimpy.py", host, port, a.Client, a.Helo, a.MailFrom)
	return verdict(t, "dkimpy", out, err)
}

// Mailauth asks mailauth, which also evaluates DMARC.
func Mailauth(t testing.TB, dns string, a Arrival) *Verdict {
	t.Helper()
	host, port, _ := net.SplitHostPort(dns)
	out, err := Node(t, a.Data, "verify_mailauth.js", host, port, a.Client, a.Helo, a.MailFrom)
	return verdict(t, "mailauth", out, err)
}

// MailDKIM asks Mail::DKIM, which does not know Ed25519.
func MailDKIM(t testing.TB, dns string, a Arrival) *Verdict {
	t.Helper()
	host, port, _ := net.SplitHostPort(dns)
	out, err := Run(t, a.Data, Program(t, "perl"), Script(t, "verify_maildkim.pl"), host, port)
	return verdict(t, "Mail::DKIM", out, err)
}

func verdict(t testing.TB, by, out string, err error) *Verdict {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	v := &Verdict{By: by}
	if err := json.Unmarshal([]byte(out), v); err != nil {
		t.Fatalf("%s: %v in %s", by, err, out)
	}
	return v
}
