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

// facts gathers what the directory and the DNS say of a message's From at this
// moment. Everything it asks of the DNS is cached by the checker.
func (p *Planner) facts(ctx context.Context, v *tenant.View, m *mail.Message, route []mail.UpstreamID) *facts {
	from := m.From
	in := &facts{Input: method.Input{From: from, Methods: v.Methods(), AllowFromChange: v.Tenant.AllowFromChange, NullSender: m.Envelope.From.IsZero()}}
	if slices.Contains(in.Methods, mail.MethodAddress) {
		in.Freemail, in.AddressLeft = dnscheck.Freemail(from.Domain), p.addressLeft(v)
	}
	in.Sending = method.Domain{Name: p.o.SendingDomain, KeyUnknown: true, Found: "the platform's keys could not be read"}
	if d, err := p.sendingDomain(ctx); err == nil {
		in.platform = d
		in.Sending, in.sending = p.domain(ctx, 0, d)
		in.Sending.Active = true
	}
	if d, ok := v.DomainFor(from.Domain); ok {
		in.Domain, in.own = p.domain(ctx, v.Tenant.ID, d)
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
	for _, id := range route {
		in.Route = append(in.Route, p.step(v, id))
	}
	return in
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

// domain is what the DNS says of a tenant's domain, and which of its keys it
// shows.
func (p *Planner) domain(ctx context.Context, t mail.TenantID, d *tenant.Domain) (method.Domain, []mail.Selector) {
	keys := p.check.Keys(ctx, t, d)
	f := method.Domain{
		Name: d.Name, Active: d.Verified || d.State == tenant.DomainActive, KeySeen: len(keys.Seen) > 0, KeyUnknown: keys.Unknown,
		Found: keys.Found, Record: keys.Record, Expected: keys.Expected, ReturnPath: d.ReturnPathHost(),
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
		return f, all(t, d)
	}
	return f, keys.Seen
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

// sendingDomain is the platform's sending domain, in the form of a tenant's.
func (p *Planner) sendingDomain(ctx context.Context) (*tenant.Domain, error) {
	keys, err := p.dir.PlatformKeys(ctx)
	if err != nil {
		return nil, err
	}
	return &tenant.Domain{Name: p.o.SendingDomain, ReturnPath: p.o.ReturnPath, DKIM: keys, Verified: true}, nil
}

// step describes one upstream of a route to the choice of methods.
func (p *Planner) step(v *tenant.View, id mail.UpstreamID) method.Upstream {
	u := method.Upstream{ID: id, Kind: method.KindMX}
	name, isConnection := strings.CutPrefix(string(id), mail.ConnectionPrefix)
	switch {
	case isConnection:
		c, ok := v.Connection(name)
		if !ok {
			u.Problem = "there is no connection " + name
			return u
		}
		u.Kind, u.Senders, u.ProviderSigns = method.KindAccount, c.Senders, c.Signs == "provider"
		if c.Envelope == "any" {
			u.Kind = method.KindAny
		}
		if len(u.Senders) == 0 {
			if a, ok := c.Account(); ok {
				u.Senders = []string{a.String()}
			}
		}
	case id == mail.UpstreamPlatform:
		u.ProviderSigns = p.o.PlatformSigns
		if p.o.Platform == nil {
			u.Problem = "the platform has no smart host"
		}
	case id == mail.UpstreamMailbox:
		if p.o.Mailbox == nil {
			u.Problem = "local delivery is for development only"
		}
	case id == mail.UpstreamMX:
	default:
		u.Problem = "there is no upstream " + string(id)
	}
	return u
}

// available tells whether a client or a policy may route a tenant's message
// through id: its own connections and what every tenant has.
func (p *Planner) available(v *tenant.View, id mail.UpstreamID) bool {
	return p.step(v, id).Problem == ""
}

// routeOf is the tenant's route as upstreams.
func routeOf(v *tenant.View) []mail.UpstreamID {
	var ids []mail.UpstreamID
	for _, w := range v.Route() {
		if id := w.ID(); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}
