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

// reserve takes what a decision's limits ask for. A message counts once,
// recipients one by one, also in a limit that the sender stage named, and bytes
// when the message has come. What is reserved is given back unless the message
// is accepted.
func (t *transaction) reserve(pkg string, limits []policy.Limit, fate *fateOfOne) error {
	switch pkg {
	case policy.PackageRecipient:
		limits = slices.Concat(t.perRecipient, limits)
	case policy.PackageMessage:
		limits = slices.Concat(t.perByte, limits)
	}
	var asks []limit.Ask
	for _, l := range limits {
		key := limitKey(l)
		if k := slices.IndexFunc(asks, func(a limit.Ask) bool { return a.Key == key }); k >= 0 {
			asks[k].Rate, asks[k].Burst = min(asks[k].Rate, l.Rate), min(asks[k].Burst, l.Burst) // said twice: the stricter holds
			continue
		}
		if n := t.share(pkg, l, key); n > 0 {
			asks = append(asks, limit.Ask{Key: key, Rate: l.Rate, Per: l.Per, Burst: l.Burst, N: n, Over: limit.Over(l.Over), MaxWait: l.MaxWait})
		}
	}
	if err := t.reserveAsks(asks, fate); err != nil {
		return err
	}
	for _, a := range asks {
		t.counted[a.Key] += a.N
	}
	return nil
}

// share is how much of this message a limit has to count at a stage: what there
// is to count by now, without what it has counted. A limit on what is not known
// yet is kept for the stage that knows it.
func (t *transaction) share(pkg string, l policy.Limit, key string) int64 {
	done := t.counted[key]
	switch {
	case l.Count == policy.CountMessages:
		return 1 - done
	case l.Count == policy.CountBytes && pkg != policy.PackageMessage:
		t.perByte = keep(t.perByte, l, key)
		return 0
	case l.Count == policy.CountBytes:
		return t.draft.Size() - done
	case pkg == policy.PackageSender:
		t.perRecipient = keep(t.perRecipient, l, key)
		return 0
	case pkg == policy.PackageRecipient:
		return 1
	}
	return int64(len(t.recipients)) - done
}

func keep(list []policy.Limit, l policy.Limit, key string) []policy.Limit {
	if slices.ContainsFunc(list, func(o policy.Limit) bool { return limitKey(o) == key }) {
		return list
	}
	return append(list, l)
}

// limitKey names a limit by its rule, window and count too, so that two rules
// never share a counter by accident.
func limitKey(l policy.Limit) string {
	return limit.Key(append([]string{l.Rule, string(l.Count), l.Per.String()}, l.Key...)...)
}

func (t *transaction) reserveAsks(asks []limit.Ask, fate *fateOfOne) error {
	if len(asks) == 0 {
		return nil
	}
	r, v := t.in.Limits.Reserve(t.now, asks)
	if !v.OK {
		return overLimit(v)
	}
	t.reservations = append(t.reservations, r)
	until := t.now.Add(v.Wait)
	switch v.Over {
	case limit.OverPace:
		fate.pace(until)
	case limit.OverHold:
		fate.hold("over a limit", until)
	}
	return nil
}

// overLimit tells a client when to come again.
func overLimit(v limit.Verdict) *mail.Failure {
	if v.Wait == limit.Never {
		return mail.Fail(452, mail.Enhanced{4, 7, 1}, mail.OfMessage, mail.ReasonRate, "this asks for more at once than the limit ever allows; send less at a time")
	}
	wait := v.Wait.Round(time.Second)
	f := mail.Fail(452, mail.Enhanced{4, 7, 1}, mail.OfMessage, mail.ReasonRate, "over the sending limit; try again in %s seconds", strconv.Itoa(max(1, int(wait.Seconds()))))
	f.RetryAfter = max(time.Second, wait)
	return f
}

// addressAsk is the daily cap of method address.
func addressAsk(v *tenant.View, n int64) limit.Ask {
	perDay := v.AddressPerDay()
	return limit.Ask{Key: limit.Key("method-address", strconv.FormatUint(uint64(v.Tenant.ID), 10)), Rate: float64(perDay), Per: 24 * time.Hour, Burst: int64(perDay), N: n}
}

// addressLeft is how many messages of method address the tenant has left today.
func (p *Planner) addressLeft(v *tenant.View) int {
	ask := addressAsk(v, 1)
	return int(p.limits.Peek(time.Now(), ask).Remaining)
}

// reserveAddress counts a message that may go by method address, be it as a
// fallback: attempts do not ask again. It counts by the clock of addressLeft, as
// the transaction may have begun long before.
func (t *transaction) reserveAddress(m *mail.Message) error {
	if !slices.ContainsFunc(m.Wishes, func(w mail.Wish) bool { return slices.Contains(w.Methods, mail.MethodAddress) }) {
		return nil
	}
	r, v := t.in.Limits.Reserve(time.Now(), []limit.Ask{addressAsk(t.view, 1)})
	if !v.OK {
		return overLimit(v)
	}
	t.reservations = append(t.reservations, r)
	return nil
}

// learn counts an accepted message in the tenant's usage. A crash in between
// forgets one message in a statistic; a failure is logged and changes nothing
// about the message, which is ours by now.
func (t *transaction) learn(ctx context.Context, m *mail.Message) {
	t.in.o.Metrics.took()
	c := limit.Counts{Messages: 1, Recipients: int64(len(t.recipients)), NewRecipients: int64(t.firstTime)}
	if err := t.in.Usage.Add(ctx, m.Tenant, t.p.Username, t.now, c); err != nil {
		t.in.o.Log.Error("usage was not counted", "tenant", t.view.Tenant.Name, "message", m.ID.String(), "err", err)
	}
}

// usage is what the tenant sent of late, for policies. New recipients count as
// they come, so that one large message is measured like many small ones.
func (t *transaction) usage(ctx context.Context) (*policy.Usage, error) {
	if t.used == nil {
		all, own, err := t.in.Usage.Get(ctx, t.view.Tenant.ID, t.p.Username, t.now)
		if err != nil {
			return nil, fmt.Errorf("reading the usage of %s: %w", t.view.Tenant.Name, err)
		}
		t.used = &policy.Usage{
			Hour: policy.Window(all.Hour), Day: policy.Window(all.Day),
			Credential: policy.CredentialUsage{Hour: policy.Window(own.Hour), Day: policy.Window(own.Day)},
		}
	}
	u := *t.used
	for _, w := range []*policy.Window{&u.Hour, &u.Day, &u.Credential.Hour, &u.Credential.Day} {
		w.NewRecipients += int64(t.firstTime)
	}
	return &u, nil
}
