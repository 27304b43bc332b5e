package relay

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"behalf/mail"
	"behalf/policy"
	"behalf/tenant"
	"behalf/tenant/method"
	"behalf/upstream"
)

// ways is what follows of a tenant's view and the planner's options alone, so that
// it need not be found out for each message. It is made once, goes with the view
// and is never changed.
type ways struct {
	planner *Planner
	policy  *policy.Tenant // what policies see of the tenant
	domain  *tenant.Domain // of the platform: the sending domain; nil: it has no keys
	route   []mail.UpstreamID
	signed  bool // we shall probably sign mail by that route
	// Of each step of the route, in its order:
	steps    []method.Upstream
	accounts []mail.Address      // of connections: the account's own address; zero: it has none
	out      []upstream.Upstream // nil where the step has a problem
}

// ways gives those of a view.
func (p *Planner) ways(v *tenant.View) *ways {
	if w, ok := v.Carried().(*ways); ok && w.planner == p {
		return w
	}
	w := p.makeWays(v)
	v.Carry(w) // be it somebody else's by now, it says the same
	return w
}

func (p *Planner) makeWays(v *tenant.View) *ways {
	w := &ways{planner: p, route: routeOf(v), policy: tenantInput(v)}
	for _, id := range w.route {
		s := p.makeStep(v, id)
		w.steps = append(w.steps, s)
		var account mail.Address
		if c, ok := connectionOf(v, id); ok {
			account, _ = c.Account()
		}
		w.accounts = append(w.accounts, account)
		w.out = append(w.out, p.makeUpstream(v, &s))
	}
	w.signed = method.LikelySigned(w.steps, v.Methods())
	if d, ok := v.Domain(p.o.SendingDomain); ok && v.Tenant.ID == 0 {
		w.domain = &tenant.Domain{Name: p.o.SendingDomain, ReturnPath: p.o.ReturnPath, DKIM: d.DKIM, Verified: true}
	}
	return w
}

// connectionOf finds the connection that an upstream is.
func connectionOf(v *tenant.View, id mail.UpstreamID) (*tenant.Connection, bool) {
	name, ok := strings.CutPrefix(string(id), mail.ConnectionPrefix)
	if !ok {
		return nil, false
	}
	return v.Connection(name)
}

// stepsOf gives the steps of a route.
func (p *Planner) stepsOf(v *tenant.View, route ...mail.UpstreamID) []method.Upstream {
	w := p.ways(v)
	if len(route) == 1 {
		if i := slices.Index(w.route, route[0]); i >= 0 {
			return w.steps[i : i+1 : i+1]
		}
	}
	if slices.Equal(route, w.route) {
		return slices.Clip(w.steps)
	}
	steps := make([]method.Upstream, len(route))
	for i, id := range route {
		steps[i] = p.step(v, id)
	}
	return steps
}

// account is the own address of a connection's account.
func (p *Planner) account(v *tenant.View, id mail.UpstreamID, c *tenant.Connection) (mail.Address, bool) {
	w := p.ways(v)
	if i := slices.Index(w.route, id); i >= 0 {
		return w.accounts[i], !w.accounts[i].IsZero()
	}
	return c.Account()
}

// upstream finds or builds the way out.
func (p *Planner) upstream(v *tenant.View, id mail.UpstreamID) (upstream.Upstream, error) {
	if p.o.Capture && p.o.Mailbox != nil {
		return p.o.Mailbox, nil
	}
	w := p.ways(v)
	if i := slices.Index(w.route, id); i >= 0 && w.out[i] != nil {
		return w.out[i], nil
	}
	s := p.step(v, id)
	if u := p.makeUpstream(v, &s); u != nil {
		return u, nil
	}
	return nil, mail.Fail(451, mail.Enhanced{4, 3, 5}, mail.OfRoute, mail.ReasonUpstreamAbsent, "%s", s.Problem)
}

// makeUpstream gives the way out of a step; nil if it has a problem.
func (p *Planner) makeUpstream(v *tenant.View, s *method.Upstream) upstream.Upstream {
	switch {
	case s.Problem != "":
		return nil
	case s.ID == mail.UpstreamMX:
		return p.o.MX
	case s.ID == mail.UpstreamPlatform:
		return p.o.Platform
	case s.ID == mail.UpstreamMailbox:
		return p.o.Mailbox
	}
	c, _ := connectionOf(v, s.ID)
	return &booked{p: p, v: v, c: c, id: s.ID}
}

// sendingDomain is the platform's sending domain, in the form of a tenant's.
func (p *Planner) sendingDomain(ctx context.Context) (*tenant.Domain, error) {
	v, err := p.dir.View(ctx, 0)
	if err != nil {
		return nil, err
	}
	d := p.ways(v).domain
	if d == nil {
		return nil, fmt.Errorf("sending domain %q: %w", p.o.SendingDomain, tenant.ErrNotFound)
	}
	return d, nil
}

// step describes one upstream of a route to the choice of methods.
func (p *Planner) step(v *tenant.View, id mail.UpstreamID) method.Upstream {
	w := p.ways(v)
	if i := slices.Index(w.route, id); i >= 0 {
		return w.steps[i]
	}
	return p.makeStep(v, id)
}

func (p *Planner) makeStep(v *tenant.View, id mail.UpstreamID) method.Upstream {
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
