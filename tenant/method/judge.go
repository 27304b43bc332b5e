package method

import (
	"fmt"
	"strings"

	"behalf/mail"
	"behalf/tenant"
)

// verdict is whether a method holds, and why.
type verdict struct {
	holds     bool
	why       string // a sentence
	temporary bool   // what is in the way may pass by itself
	missing   *Domain
}

func no(format string, args ...any) verdict { return verdict{why: fmt.Sprintf(format, args...)} }

func yes(format string, args ...any) verdict {
	return verdict{holds: true, why: fmt.Sprintf(format, args...)}
}

func later(format string, args ...any) verdict {
	return verdict{why: fmt.Sprintf(format, args...), temporary: true}
}

// judge says whether method m holds at u.
func judge(in *Input, u *Upstream, m mail.Method, fallback bool) verdict {
	switch {
	case in.Asked != "" && in.Asked != m:
		return no("method %s was asked for", in.Asked)
	case !u.Kind.possible(m):
		return no("method %s is not possible at %s", m, u.ID)
	case u.Problem != "":
		return later("%s cannot be used: %s", u.ID, u.Problem)
	}
	switch m {
	case mail.MethodDomain:
		return domain(in, u)
	case mail.MethodConnection:
		return connection(in, u)
	case mail.MethodAddress:
		return address(in)
	case mail.MethodName:
		return name(in, fallback)
	}
	return no("method %q is not known", m)
}

func domain(in *Input, u *Upstream) verdict {
	d := &in.Domain
	if d.Name == "" {
		return no("the tenant has no domain for %s; add it and publish its records", in.From.Domain)
	}
	if u.Kind == KindAny || len(u.Senders) > 0 {
		if !covers(u.Senders, in.From) {
			return no("the account of %s may not send as %s; list it under senders if it may", u.ID, in.From)
		}
	}
	if v, ok := aligned(in); !ok {
		return v
	}
	if u.signs() {
		if !d.Active {
			return no("the tenant has not yet proved that it owns %s", d.Name)
		}
		return yes("%s signs for %s", u.ID, d.Name)
	}
	if !d.KeySeen {
		return noKey(d)
	}
	if !d.PathOK && d.PathDetail != "" {
		return yes("the DNS shows a key of %s; its return path is not in order, so the platform's is used: %s", d.Name, d.PathDetail)
	}
	return yes("the DNS shows a key of %s", d.Name)
}

// noKey says that no key of d stands in the DNS.
func noKey(d *Domain) verdict {
	if d.KeyUnknown {
		return later("the DKIM keys of %s cannot be looked up now: %s", d.Name, d.Found)
	}
	v := no("the DNS does not show a DKIM key of %s: %s", d.Name, d.Found)
	v.missing = d
	return v
}

// aligned demands that a signature of the tenant's domain counts for the From
// (RFC 9989, section 4.4). Where the DNS could not say, relaxed alignment is
// assumed, the default that nearly every domain has.
func aligned(in *Input) (verdict, bool) {
	from, d := in.From.Domain, in.Domain.Name
	if from == d {
		return verdict{}, true
	}
	if in.DMARC.ADKIM == tenant.Strict {
		return no("DMARC of %s asks for strict alignment (adkim=s): a signature of %s does not count; add the domain %s itself", from, d, from), false
	}
	if org := in.DMARC.Org; org != "" && d != org && !strings.HasSuffix(d, "."+org) {
		return no("%s and %s are different organizations in DMARC (%s is one of its own)", from, d, org), false
	}
	return verdict{}, true
}

func connection(in *Input, u *Upstream) verdict {
	if !covers(u.Senders, in.From) {
		return no("the account of %s may not send as %s; list it under senders if it may", u.ID, in.From)
	}
	return yes("the account of %s may send as %s", u.ID, in.From)
}

func covers(patterns []string, a mail.Address) bool {
	for _, p := range patterns {
		if strings.EqualFold(p, a.Key()) || strings.EqualFold(p, "*@"+a.Domain) {
			return true
		}
	}
	return false
}

func address(in *Input) verdict {
	from := in.From
	policy := in.DMARC.Policy
	switch {
	case !in.IdentityOK:
		return no("%s is not a verified identity", from)
	case in.Freemail:
		return no("%s gives mailboxes to everybody; others may not send as it", from.Domain)
	case policy == tenant.PolicyUnknown:
		return later("the DMARC policy of %s cannot be looked up now%s", from.Domain, after(": ", in.DMARCDetail))
	case policy != tenant.PolicyNone && policy != tenant.PolicyAbsent:
		return no("%s asks receivers to %s what fails DMARC (%s at _dmarc.%s)", from.Domain, policy, in.DMARC.Record, in.DMARC.Domain)
	case in.AddressLeft <= 0:
		return later("the tenant has sent as many messages by method address today as it may")
	}
	return yes("%s is verified, and its domain does not ask for DMARC", from)
}

func name(in *Input, fallback bool) verdict {
	s := &in.Sending
	switch {
	case in.IdentityClaimed && !in.IdentityOK:
		return no("%s is claimed but not verified", in.From)
	case fallback && !in.AllowFromChange:
		return no("it would change the visible From, which the tenant does not allow (allow_from_change)")
	case s.Name == "":
		return no("the platform has no sending domain")
	case in.SendingPolicy.Enforced() && !s.KeySeen && !s.PathOK:
		return noKey(s)
	}
	return yes("the message is sent from %s in the tenant's name", s.Name)
}

func after(sep, s string) string {
	if s == "" {
		return ""
	}
	return sep + s
}
