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
	b := &t.batch
	b.clear()
	switch pkg {
	case policy.PackageRecipient:
		for _, l := range t.perRecipient {
			b.add(l, 1)
		}
	case policy.PackageMessage:
		for _, l := range t.perByte {
			t.ask(pkg, l)
		}
	}
	for _, l := range limits {
		k := keyed{l, limitKey(l)}
		if err := t.early(pkg, k); err != nil {
			return err
		}
		t.ask(pkg, k)
	}
	if err := t.reserveBatch(t.now, fate); err != nil {
		return err
	}
	if len(b.asks) > 0 && t.counted == nil {
		t.counted = map[limit.Key]int64{}
	}
	for _, a := range b.asks {
		t.counted[a.Key] += a.N
	}
	return nil
}

// ask adds to the batch what this message has for a limit to count at a stage:
// what there is by now, without what was counted before. A limit on what is not
// known yet is kept for the stage that knows it.
func (t *transaction) ask(pkg string, l keyed) {
	n := int64(0)
	switch {
	case l.Count == policy.CountMessages:
		n = 1 - t.counted[l.key]
	case l.Count == policy.CountBytes && pkg != policy.PackageMessage:
		t.perByte = keep(t.perByte, l)
	case l.Count == policy.CountBytes:
		n = t.draft.Size() - t.counted[l.key]
	case pkg == policy.PackageSender:
		t.perRecipient = keep(t.perRecipient, l)
	case pkg == policy.PackageRecipient:
		n = 1
	default:
		n = int64(len(t.recipients)) - t.counted[l.key]
	}
	if n > 0 {
		t.batch.add(l, n)
	}
}

// early refuses a message whose declared size no limit on bytes would let pass,
// before its bytes come.
func (t *transaction) early(pkg string, l keyed) error {
	if l.Count != policy.CountBytes || pkg == policy.PackageMessage || t.declared <= 0 {
		return nil
	}
	if t.in.Limits.Would(t.now, l.ask(t.declared)).OK {
		return nil
	}
	one := batch{}
	one.add(l, t.declared)
	var taken limit.Reservation
	v := t.in.Limits.Reserve(t.now, one.asks, &taken)
	taken.Abort(t.now)
	if v.OK {
		return nil
	}
	return t.refused(&one, v)
}

// keyed is a limit with its key.
type keyed struct {
	policy.Limit
	key limit.Key
}

func (l *keyed) ask(n int64) limit.Ask {
	return limit.Ask{Key: l.key, Rate: l.Rate, Per: l.Per, Burst: l.Burst, N: n, Over: limit.Over(l.Over), MaxWait: l.MaxWait}
}

func keep(list []keyed, l keyed) []keyed {
	if slices.ContainsFunc(list, func(o keyed) bool { return o.key == l.key }) {
		return list
	}
	return append(list, l)
}

// limitKey names a limit by its rule, window and count too, so that two rules
// never share a counter by accident.
func limitKey(l policy.Limit) limit.Key {
	return limit.KeyOf(append(append(make([]string, 0, 8), l.Rule, string(l.Count), l.Per.String()), l.Key...)...)
}

// batch is what is asked of limits at once, with the rules that say so. It is
// used again and again, to spare memory.
type batch struct {
	rules []policy.Limit
	asks  []limit.Ask
}

func (b *batch) clear() { b.rules, b.asks = b.rules[:0], b.asks[:0] }

// add asks for n of a limit. Of what is said twice the stricter holds.
func (b *batch) add(l keyed, n int64) {
	a := l.ask(n)
	if k := slices.IndexFunc(b.asks, func(o limit.Ask) bool { return o.Key == a.Key }); k >= 0 {
		o := &b.asks[k]
		o.Rate, o.Burst = min(o.Rate, a.Rate), min(o.Burst, a.Burst)
		b.rules[k].Rate, b.rules[k].Burst = o.Rate, o.Burst
		return
	}
	b.rules, b.asks = append(b.rules, l.Limit), append(b.asks, a)
}

// reserveBatch reserves the whole batch or nothing of it.
func (t *transaction) reserveBatch(now time.Time, fate *fateOfOne) error {
	b := &t.batch
	if len(b.asks) == 0 {
		return nil
	}
	v := t.in.Limits.Reserve(now, b.asks, &t.reservation)
	if !v.OK {
		return t.refused(b, v)
	}
	t.passed(b, v)
	until := now.Add(v.Wait)
	switch v.Over {
	case limit.OverPace:
		fate.pace(until)
	case limit.OverHold:
		s := standing(b, v.Binding)
		fate.holdBy([]string{s.Rule}, "over "+s.words(), until)
	}
	return nil
}

// addressLimit is the daily cap of method address.
func addressLimit(v *tenant.View) keyed {
	perDay := v.AddressPerDay()
	l := policy.Limit{Rule: "method-address", Key: []string{strconv.FormatUint(uint64(v.Tenant.ID), 10)}, Count: policy.CountMessages,
		Rate: float64(perDay), Per: 24 * time.Hour, Burst: int64(perDay), Over: policy.OverDefer}
	return keyed{l, limitKey(l)}
}

// addressLeft is how many messages of method address the tenant has left today.
func (p *Planner) addressLeft(v *tenant.View) int {
	l := addressLimit(v)
	return int(p.limits.Peek(time.Now(), l.ask(1)).Remaining)
}

// reserveAddress counts a message that may go by method address, be it as a
// fallback: attempts do not ask again. It counts by the clock of addressLeft, as
// the transaction may have begun long before.
func (t *transaction) reserveAddress(m *mail.Message) error {
	if !slices.ContainsFunc(m.Wishes, func(w mail.Wish) bool { return slices.Contains(w.Methods, mail.MethodAddress) }) {
		return nil
	}
	t.batch.clear()
	t.batch.add(addressLimit(t.view), 1)
	return t.reserveBatch(time.Now(), &t.fate)
}

// learn counts an accepted message in the tenant's usage. A crash in between
// forgets one message in a statistic; a failure is logged and changes nothing
// about the message, which is ours by now.
func (t *transaction) learn(ctx context.Context, m *mail.Message) {
	t.in.o.Metrics.took()
	c := limit.Counts{Messages: 1, Recipients: int64(len(t.recipients)), NewRecipients: int64(t.firstTime)}
	t.learnHabit(ctx, m)
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
