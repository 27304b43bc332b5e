package relay

import (
	"context"

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
			if p.Methods == nil {
				p.Methods = make([]mail.Method, 0, len(trial.Choices))
			}
			p.Methods = append(p.Methods, c.Method)
		}
	}
	return p, nil
}
