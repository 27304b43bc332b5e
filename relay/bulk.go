package relay

import (
	"context"
	"slices"
	"strings"

	"behalf/limit"
	"behalf/mail"
	"behalf/policy"
	"behalf/tenant/dnscheck"
	"behalf/tenant/method"
)

// bulk tells how much each big receiver among the recipients got of late from
// the domain that the message will be from, and counts the message there. What is
// accepted counts, whenever it goes out; what is refused does not.
func (t *transaction) bulk(ctx context.Context, in *method.Input, a policy.Authentication) ([]policy.Bulk, error) {
	var shares []limit.BulkShare
	for i := range t.recipients {
		r := &t.recipients[i]
		family := t.fates[i].family
		if family == "" || r.State.Final() {
			continue
		}
		k := slices.IndexFunc(shares, func(s limit.BulkShare) bool { return s.Family == family })
		if k < 0 {
			k, shares = len(shares), append(shares, limit.BulkShare{Family: family})
		}
		shares[k].Recipients++
	}
	if len(shares) == 0 {
		return nil, nil
	}
	slices.SortFunc(shares, func(a, b limit.BulkShare) int { return strings.Compare(a.Family, b.Family) })
	var err error
	if t.bulkCount, err = t.in.Bulk.Reserve(ctx, t.bulkTenant(in, a), a.FromDomain, t.clock(), shares); err != nil {
		return nil, err
	}
	list := make([]policy.Bulk, len(shares))
	for i, s := range shares {
		list[i] = policy.Bulk{Family: s.Family, Recipients: s.Total}
	}
	return list, nil
}

// bulkTenant is the tenant that mail is counted for: 0, which is all of them
// together, as receivers see but the domain; but this one where the domain is one
// that many send from, the platform's own or a free mailbox's, and where the
// tenant has not proved that it may send as From. Else one tenant could use up
// what is there for its neighbours, be it with mail that is refused in the end.
func (t *transaction) bulkTenant(in *method.Input, a policy.Authentication) mail.TenantID {
	if !in.IdentityOK || a.Method == mail.MethodName || dnscheck.Freemail(in.From.Domain) {
		return t.view.Tenant.ID
	}
	return 0
}
