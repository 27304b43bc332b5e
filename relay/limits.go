package relay

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"behalf/limit"
	"behalf/mail"
	"behalf/policy"
	"behalf/tenant"
)

// reserve takes what a decision's limits ask for, as [Counting] says. What is
// reserved is given back unless the message is accepted.
func (t *transaction) reserve(pkg string, limits []policy.Limit, fate *fateOfOne) error {
	at := Stage{Package: pkg, Declared: t.declared, Recipients: int64(len(t.recipients))}
	if pkg == policy.PackageMessage {
		at.Size = t.draft.Size()
	}
	now := t.clock()
	v := t.counting.Reserve(t.in.Limits, now, at, limits, &t.reservation)
	return t.reserved(v, now, fate)
}

// reserved does what the verdict on the last batch says.
func (t *transaction) reserved(v limit.Verdict, now time.Time, fate *fateOfOne) error {
	b := &t.counting.batch
	if len(b.asks) == 0 {
		return nil
	}
	if !v.OK {
		return t.refused(b, v)
	}
	t.passed(b, v)
	until := now.Add(v.Wait)
	switch v.Over {
	case limit.OverPace:
		s := t.standing(b, v.Binding)
		fate.pace(until, cause{s.Rule, "over " + s.words()})
	case limit.OverHold:
		s := t.standing(b, v.Binding)
		fate.hold(held{cause: cause{s.Rule, "over " + s.words()}, until: until, byLimit: true})
	}
	return nil
}

// addressLimit is the daily cap of method address.
func addressLimit(v *tenant.View) keyed {
	perDay := v.AddressPerDay()
	l := policy.Limit{Rule: "method-address", Key: []string{"tenant", strconv.FormatUint(uint64(v.Tenant.ID), 10)}, Count: policy.CountMessages,
		Rate: float64(perDay), Per: 24 * time.Hour, Burst: int64(perDay), Over: policy.OverDefer}
	return keyed{l, limitKey(l)}
}

// addressLeft is how many messages of method address the tenant has left today.
func (p *Planner) addressLeft(v *tenant.View) int {
	l := addressLimit(v)
	return int(p.limits.Peek(time.Now(), l.ask(1)).Remaining)
}

// reserveAddress counts a message that may go by method address, be it as a
// fallback: attempts do not ask again.
func (t *transaction) reserveAddress(m *mail.Message) error {
	if !slices.ContainsFunc(m.Wishes, func(w mail.Wish) bool { return slices.Contains(w.Methods, mail.MethodAddress) }) {
		return nil
	}
	b, now := &t.counting.batch, t.clock()
	b.clear()
	b.add(addressLimit(t.view), 1)
	return t.reserved(t.in.Limits.Reserve(now, b.asks, &t.reservation), now, &t.fate)
}

// learn counts an accepted message in the tenant's usage. A crash in between
// forgets one message in a statistic; a failure is logged and changes nothing
// about the message, which is ours by now.
func (t *transaction) learn(ctx context.Context, m *mail.Message) {
	t.in.o.Metrics.took()
	c := limit.Counts{Messages: 1, Recipients: int64(len(t.recipients)), NewRecipients: int64(t.firstTime)}
	t.learnHabit(ctx, m)
	if err := t.in.Usage.Add(ctx, m.Tenant, t.p.Username, t.clock(), c); err != nil {
		t.in.o.Log.Error("usage was not counted", "tenant", t.view.Tenant.Name, "message", m.ID.String(), "err", err)
	}
}

// usage is what the tenant sent of late, for policies. New recipients count as
// they come, so that one large message is measured like many small ones, and what
// others sent meanwhile counts as it is, a moment apart.
func (t *transaction) usage(ctx context.Context) (*policy.Usage, error) {
	if now := t.clock(); t.used == nil || now.Sub(t.usedAt) >= time.Second {
		all, own, err := t.in.Usage.Get(ctx, t.view.Tenant.ID, t.p.Username, now)
		if err != nil {
			return nil, fmt.Errorf("reading the usage of %s: %w", t.view.Tenant.Name, err)
		}
		t.usedAt, t.used = now, lend(t, &t.room.usage)
		*t.used = policy.Usage{
			Hour: policy.Window(all.Hour), Day: policy.Window(all.Day),
			Credential: policy.CredentialUsage{Hour: policy.Window(own.Hour), Day: policy.Window(own.Day)},
		}
	}
	if t.firstTime == 0 {
		return t.used, nil
	}
	u := *t.used
	for _, w := range []*policy.Window{&u.Hour, &u.Day, &u.Credential.Hour, &u.Credential.Day} {
		w.NewRecipients += int64(t.firstTime)
	}
	return &u, nil
}
