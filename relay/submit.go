package relay

import (
	"context"

	"behalf/mail"
	"behalf/tenant"
)

// Accept takes a whole message at once. Recipients that are refused are listed
// in the receipt; when all are, the first refusal is the error.
func (in *Intake) Accept(ctx context.Context, p *Principal, c Client, s Submission) (Receipt, error) {
	r, err := in.acceptWhole(ctx, p, c, s)
	in.o.Metrics.refused(err)
	return r, err
}

func (in *Intake) acceptWhole(ctx context.Context, p *Principal, c Client, s Submission) (Receipt, error) {
	if f := in.o.Shed(); f != nil {
		return Receipt{}, f
	}
	if r, found, err := in.repeatedWhole(ctx, p, c, &s); found || err != nil {
		r.Refused = r.leftOut(s.Recipients)
		return r, err
	}
	t, err := in.begin(ctx, p, c, s.Envelope, 0, s.Hints)
	if err != nil {
		return Receipt{}, err
	}
	defer t.Abort() // does nothing once it was committed; a panic gives back what it reserved
	var refused []Refusal
	for _, r := range s.Recipients {
		err := t.Recipient(ctx, r)
		if err == nil {
			continue
		}
		f := mail.AsFailure(err)
		if f.Scope == mail.OfUs {
			return Receipt{}, err
		}
		refused = append(refused, Refusal{Address: r.Address, Failure: f})
	}
	if len(t.recipients) == 0 && len(refused) > 0 {
		return Receipt{}, refused[0].Failure
	}
	if err := s.Write(t); err != nil {
		return Receipt{}, err
	}
	if s.Hash != nil {
		t.hints.request = s.Hash()
	}
	receipt, err := t.Commit(ctx)
	receipt.Refused = refused
	if receipt.Repeated {
		receipt.Refused = receipt.leftOut(s.Recipients)
	}
	return receipt, err
}

// Administrator is the principal of the admin key: a platform credential that
// may act for every tenant.
func (in *Intake) Administrator() *Principal {
	return &Principal{Username: in.administrator.Username, credential: &in.administrator}
}

// Credential is what the principal authenticated with.
func (p *Principal) Credential() *tenant.Credential { return p.credential }

// Tenant names the tenant that the principal acts for; empty while a platform
// credential has named none.
func (p *Principal) Tenant() string {
	if p.view == nil {
		return ""
	}
	return p.view.Tenant.Name
}
