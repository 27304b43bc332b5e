package relay

import (
	"context"
	"strings"

	"behalf/mail"
	"behalf/mail/header"
	"behalf/policy"
	"behalf/tenant"
	"behalf/tenant/method"
)

// authentication is what receivers are expected to find in the message, by the
// way that would be tried first. Rules may yet choose another way among those
// that hold; each of them is authentic in its own right.
func (t *transaction) authentication(ctx context.Context, in *method.Input, trial method.Result) policy.Authentication {
	if t.hints.Method != "" {
		asked := *in
		asked.Asked = t.hints.Method
		trial = method.Choose(&asked)
	}
	if len(trial.Wishes) == 0 {
		return policy.Authentication{FromDomain: t.in.Planner.organisation(in.From.Domain, in.DMARC.Org), DMARCPolicy: dmarcPolicy(in.DMARC.Policy)}
	}
	m, u := trial.Wishes[0].Methods[0], way(in, trial.Wishes[0].Upstream)
	a := policy.Authentication{Method: m, ReverseDNS: true}
	a.SPF, a.DKIM = passes(in, u, m)
	if m == mail.MethodName {
		a.FromDomain, a.DMARCPolicy = t.in.Planner.sendingOrganisation(ctx), dmarcPolicy(in.SendingPolicy)
	} else {
		a.FromDomain, a.DMARCPolicy = t.in.Planner.organisation(in.From.Domain, in.DMARC.Org), dmarcPolicy(in.DMARC.Policy)
	}
	p := t.in.Planner
	if p.o.Capture { // nothing leaves the machine: the DNS is taken to show what it should
		a.DMARCPolicy = string(tenant.PolicyNone)
		return a
	}
	if u.ID == mail.UpstreamMX && p.o.ReverseDNS != nil {
		switch {
		case t.policy.Own().ReverseDNS:
			a.ReverseDNS = p.o.ReverseDNS.Confirmed(ctx)
		case t.policy.Needs().ReverseDNS: // a draft's wish, for which nobody waits
			a.ReverseDNS = p.o.ReverseDNS.Known(ctx)
		}
	}
	return a
}

// way is the step of the route that a wish came from.
func way(in *method.Input, id mail.UpstreamID) *method.Upstream {
	for i := range in.Route {
		if in.Route[i].ID == id {
			return &in.Route[i]
		}
	}
	return &method.Upstream{ID: id} // wishes are made of the route, so it is there
}

// passes tells whether SPF will pass, and a DKIM signature aligned with From. Of
// a provider that signs for its account both are expected.
func passes(in *method.Input, u *method.Upstream, m mail.Method) (spf, dkim bool) {
	platform := in.Sending.PathOK && !in.NullSender // SPF of our return path
	switch m {
	case mail.MethodConnection:
		return true, true
	case mail.MethodDomain:
		return u.Kind == method.KindProvider || !in.NullSender && in.Domain.PathOK || platform, true
	case mail.MethodAddress:
		return platform, false
	}
	return platform, in.Sending.KeySeen || u.ProviderSigns
}

func dmarcPolicy(p tenant.Policy) string {
	switch p {
	case tenant.PolicyUnknown:
		return "unknown"
	case tenant.PolicyAbsent:
		return ""
	}
	return string(p)
}

// organisation is the organisational domain: the one DMARC found, else by the
// public suffix list, as receivers do that know no better.
func (p *Planner) organisation(domain, org string) string {
	if org != "" {
		return org
	}
	return p.places.of(domain).site
}

// sendingOrganisation is that of the platform's sending domain.
func (p *Planner) sendingOrganisation(ctx context.Context) string {
	d, err := p.check.DMARC(ctx, p.o.SendingDomain)
	if err != nil {
		return p.places.of(p.o.SendingDomain).site
	}
	return p.organisation(p.o.SendingDomain, d.Org)
}

// oneClick reports whether the message will let recipients leave by one click
// (RFC 8058): with the client's own pair of fields, or with ours.
func oneClick(m *mail.Message, h header.Header) bool {
	if m.Unsubscribe {
		return true
	}
	if !strings.EqualFold(strings.TrimSpace(h.Get("List-Unsubscribe-Post")), "List-Unsubscribe=One-Click") {
		return false
	}
	for _, uri := range strings.Split(h.Get("List-Unsubscribe"), ",") {
		uri = strings.TrimSpace(uri)
		if len(uri) > len("<https://>") && strings.EqualFold(uri[:len("<https://")], "<https://") && strings.HasSuffix(uri, ">") {
			return true
		}
	}
	return false
}
