package method

import (
	"strings"

	"behalf/mail"
	"behalf/tenant"
)

// verdict is whether a method holds, and why.
type verdict struct {
	holds     bool
	why       string // a sentence
	temporary bool   // what is in the way may pass by itself
	missing   bool   // a key of the tenant's domain
}

func no(why string) verdict    { return verdict{why: why} }
func yes(why string) verdict   { return verdict{why: why, holds: true} }
func later(why string) verdict { return verdict{why: why, temporary: true} }

// judge says whether method m holds at u.
func judge(in *Input, u *Upstream, m mail.Method, fallback bool) verdict {
	switch {
	case in.Asked != "" && in.Asked != m:
		return no("method " + string(in.Asked) + " was asked for")
	case !u.Kind.possible(m):
		return no("method " + string(m) + " is not possible at " + string(u.ID))
	case u.Problem != "":
		return later(string(u.ID) + " cannot be used: " + u.Problem)
	}
	switch m {
	case mail.MethodDomain:
		return domain(in, u)
	case mail.MethodConnection:
		return connection(in, u)
	case mail.MethodAddress:
		return address(in)
	case mail.MethodName:
		return name(in, u, fallback)
	}
	return no("method " + string(m) + " is not known")
}

func domain(in *Input, u *Upstream) verdict {
	d := &in.Domain
	if d.Name == "" {
		return no("the tenant has no domain for " + in.From.Domain + "; add it and publish its records")
	}
	if u.Kind == KindAny || len(u.Senders) > 0 {
		if !covers(u.Senders, in.From) {
			return no("the account of " + string(u.ID) + " may not send as " + in.From.String() + "; list it under senders if it may")
		}
	}
	if v, ok := aligned(in); !ok {
		return v
	}
	if u.signs() {
		if !d.Active {
			return no("the tenant has not yet proved that it owns " + d.Name)
		}
		return yes(string(u.ID) + " signs for " + d.Name)
	}
	if !d.KeySeen {
		return noKey(d)
	}
	if !d.PathOK && d.PathDetail != "" {
		return yes("the DNS shows a key of " + d.Name + "; its return path is not in order, so the platform's is used: " + d.PathDetail)
	}
	return yes("the DNS shows a key of " + d.Name)
}

// noKey says that no key of d stands in the DNS.
func noKey(d *Domain) verdict {
	if d.KeyUnknown {
		return later("the DKIM keys of " + d.Name + " cannot be looked up now: " + d.Found)
	}
	v := no("the DNS does not show a DKIM key of " + d.Name + ": " + d.Found)
	v.missing = true
	return v
}

// record is the name of the TXT record that is missed.
func (d *Domain) record() string {
	if d.Missed == nil {
		return ""
	}
	return d.Missed.Selector + "._domainkey." + d.Name
}

// expected is the value that it should have.
func (d *Domain) expected() string {
	if d.Missed == nil {
		return ""
	}
	return d.Missed.Record()
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
		return no("DMARC of " + from + " asks for strict alignment (adkim=s): a signature of " + d + " does not count; add the domain " + from + " itself"), false
	}
	if org := in.DMARC.Org; org != "" && d != org && !strings.HasSuffix(d, "."+org) {
		return no(from + " and " + d + " are different organizations in DMARC (" + org + " is one of its own)"), false
	}
	return verdict{}, true
}

func connection(in *Input, u *Upstream) verdict {
	if !covers(u.Senders, in.From) {
		return no("the account of " + string(u.ID) + " may not send as " + in.From.String() + "; list it under senders if it may")
	}
	return yes("the account of " + string(u.ID) + " may send as " + in.From.String())
}

func covers(patterns []string, a mail.Address) bool {
	for _, p := range patterns {
		at := strings.LastIndexByte(p, '@')
		if at < 0 || !strings.EqualFold(p[at+1:], a.Domain) {
			continue
		}
		if local := p[:at]; local == "*" || strings.EqualFold(local, strings.ToLower(a.Local)) {
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
		return no(from.String() + " is not a verified identity")
	case in.Freemail:
		return no(from.Domain + " gives mailboxes to everybody; others may not send as it")
	case policy == tenant.PolicyUnknown:
		return later("the DMARC policy of " + from.Domain + " cannot be looked up now" + after(": ", in.DMARCDetail))
	case policy != tenant.PolicyNone && policy != tenant.PolicyAbsent:
		return no(from.Domain + " asks receivers to " + string(policy) + " what fails DMARC (" + in.DMARC.Record + " at _dmarc." + in.DMARC.Domain + ")")
	case in.AddressLeft <= 0:
		return later("the tenant has sent as many messages by method address today as it may")
	}
	return yes(from.String() + " is verified, and its domain does not ask for DMARC")
}

func name(in *Input, u *Upstream, fallback bool) verdict {
	s := &in.Sending
	switch {
	case in.IdentityClaimed && !in.IdentityOK:
		return no("the identity " + in.From.String() + " is claimed but not verified; verify it, or prove the domain " + in.From.Domain)
	case fallback && !in.AllowFromChange:
		return no("it would change the visible From, which the tenant does not allow (allow_from_change)")
	case s.Name == "":
		return no("the platform has no sending domain")
	}
	if v, ok := authentic(in, u); !ok {
		return v
	}
	return yes("the message is sent from " + s.Name + " in the tenant's name")
}

// authentic demands that mail from the sending domain passes DMARC: by our
// signature, or by SPF where the domain is known to be content with that. What
// is missing is the platform's to mend, so it is told as a reason.
func authentic(in *Input, u *Upstream) (verdict, bool) {
	s := &in.Sending
	switch {
	case s.KeySeen:
		return verdict{}, true
	case u.signs() && (s.PathOK || !in.SendingPolicy.Enforced()):
		return verdict{}, true
	case s.PathOK && !in.NullSender && (in.SendingPolicy == tenant.PolicyAbsent || in.SendingPolicy == tenant.PolicyNone):
		return verdict{}, true
	case s.KeyUnknown:
		return later("the DKIM keys of the platform's " + s.Name + " cannot be looked up now" + after(": ", s.Found)), false
	case s.PathOK && !in.NullSender && in.SendingPolicy == tenant.PolicyUnknown:
		return later("the DMARC policy of the platform's " + s.Name + " cannot be looked up now"), false
	}
	return no("the DNS does not show a DKIM key of the platform's " + s.Name + after(" at ", s.record()) + after(": ", s.Found)), false
}

func after(sep, s string) string {
	if s == "" {
		return ""
	}
	return sep + s
}
