package relay

import (
	"context"
	"slices"
	"strings"

	"behalf/mail"
	"behalf/tenant"
	"behalf/tenant/dnscheck"
	"behalf/tenant/method"
)

// facts are what the choice of a method depends on, and the keys that may then
// sign: those that the DNS shows at the same moment.
type facts struct {
	method.Input
	own      []mail.Selector // of the tenant's domain
	sending  []mail.Selector // of the platform's sending domain
	platform *tenant.Domain  // that domain; nil: its keys could not be read
}

// gather fills in what the directory and the DNS say of a message's From at this
// moment, but for the route. Everything it asks of the DNS is cached by the
// checker.
func (p *Planner) gather(ctx context.Context, v *tenant.View, m *mail.Message, in *facts) {
	from := m.From
	in.From, in.Methods, in.AllowFromChange, in.NullSender = from, v.Methods(), v.Tenant.AllowFromChange, m.Envelope.From.IsZero()
	if slices.Contains(in.Methods, mail.MethodAddress) {
		in.Freemail, in.AddressLeft = dnscheck.Freemail(from.Domain), p.addressLeft(v)
	}
	if d, err := p.sendingDomain(ctx); err == nil {
		in.platform = d
		in.sending = p.domain(ctx, 0, d, &in.Sending)
		in.Sending.Active = true
	} else {
		in.Sending = method.Domain{Name: p.o.SendingDomain, KeyUnknown: true, Found: "the platform's keys could not be read"}
	}
	if d, ok := v.DomainFor(from.Domain); ok {
		in.own = p.domain(ctx, v.Tenant.ID, d, &in.Domain)
	}
	_, in.IdentityClaimed = v.Identity(from)
	// A proved domain covers every address below it.
	in.IdentityOK = v.Verified(from) || in.Domain.Name != "" && (in.Domain.Active || in.Domain.KeySeen)
	dmarc, err := p.check.DMARC(ctx, from.Domain)
	if err != nil {
		dmarc = tenant.DMARC{Policy: tenant.PolicyUnknown}
		in.DMARCDetail = "the DMARC record of " + from.Domain + " could not be looked up"
	}
	in.DMARC = dmarc
	if sending, err := p.check.DMARC(ctx, p.o.SendingDomain); err == nil {
		in.SendingPolicy = sending.Policy
	}
	if p.o.Capture {
		assumePublished(&in.Input)
	}
}

// assumePublished is development: nothing leaves the machine, so the DNS is
// taken to show what it should.
func assumePublished(in *method.Input) {
	for _, d := range []*method.Domain{&in.Domain, &in.Sending} {
		if d.Name != "" {
			d.Active, d.KeySeen, d.KeyUnknown, d.PathOK = true, true, false, true
		}
	}
	in.IdentityOK = in.IdentityOK || in.Domain.Name != ""
	in.DMARC, in.SendingPolicy = tenant.DMARC{Policy: tenant.PolicyAbsent}, tenant.PolicyAbsent
}

// domain fills in what the DNS says of a tenant's domain, and gives the keys that
// it shows.
func (p *Planner) domain(ctx context.Context, t mail.TenantID, d *tenant.Domain, f *method.Domain) []mail.Selector {
	keys := p.check.Keys(ctx, t, d)
	*f = method.Domain{
		Name: d.Name, Active: d.Verified || d.State == tenant.DomainActive, KeySeen: len(keys.Seen) > 0, KeyUnknown: keys.Unknown,
		Found: keys.Found, Missed: keys.Missed, ReturnPath: d.ReturnPathHost(),
	}
	if f.KeySeen && t != 0 {
		// Our key in the DNS is the proof that the tenant owns the domain. If
		// another tenant proved it first, this one must not send as it.
		if err := p.dir.Activate(ctx, t, d.Name); err != nil {
			f.KeySeen, f.Found, keys.Seen = false, "the domain could not be given to this tenant: "+err.Error(), nil
		} else {
			f.Active = true
		}
	}
	ok, detail, err := p.check.ReturnPath(ctx, f.ReturnPath)
	f.PathOK, f.PathDetail = ok && err == nil, detail
	if f.KeySeen && !f.PathOK && !anyRSA(d, keys.Seen) {
		// Many receivers do not check Ed25519: for them nothing would be aligned.
		f.KeySeen, f.Found = false, "only an Ed25519 key stands in the DNS, which many receivers do not check, and the return path is not in order"
	}
	if p.o.Capture {
		return all(t, d)
	}
	return keys.Seen
}

// anyRSA tells whether an RSA key is among those seen.
func anyRSA(d *tenant.Domain, seen []mail.Selector) bool {
	return slices.ContainsFunc(seen, func(s mail.Selector) bool { return strings.HasPrefix(algorithm(d, s.Name), "rsa") })
}

// all is every key of a domain.
func all(t mail.TenantID, d *tenant.Domain) []mail.Selector {
	var sel []mail.Selector
	for _, k := range d.DKIM {
		sel = append(sel, mail.Selector{Tenant: t, Domain: d.Name, Name: k.Selector})
	}
	return sel
}
