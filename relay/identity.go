package relay

import (
	"context"

	"golang.org/x/net/publicsuffix"

	"behalf/mail"
	"behalf/policy"
	"behalf/tenant/method"
)

// identity is what the policy is told of the From: the identity of the tenant
// that covers it, whether it is proved, whether it is another tenant's,
// and by which methods it can be made authentic.
func (t *transaction) identity(ctx context.Context, from mail.Address, in *method.Input, trial method.Result) (policy.Identity, error) {
	p := policy.Identity{Verified: in.IdentityOK}
	if id, ok := t.view.Identity(from); ok {
		p.Address = id.Address
	} else if in.IdentityOK {
		p.Address = "*@" + in.Domain.Name
	}
	var err error
	if p.Foreign, err = t.in.Directory.Foreign(ctx, t.view.Tenant.ID, from); err != nil {
		return p, err
	}
	for _, c := range trial.Choices {
		if c.Holds {
			p.Methods = append(p.Methods, c.Method)
		}
	}
	return p, nil
}

// siteOf is the organisational domain that a recipient's domain belongs to,
// by the public suffix list; a policy counts by it.
func siteOf(domain string) string {
	org, err := publicsuffix.EffectiveTLDPlusOne(domain)
	if err != nil {
		return domain
	}
	return org
}
