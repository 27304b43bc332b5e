package relay

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"behalf/limit"
	"behalf/mail"
	"behalf/policy"
	"behalf/tenant"
)

// reserve takes what a decision's limits ask for. Messages count once a
// transaction, at the first stage that says so; recipients one by one, also
// those of a limit that the sender stage named; bytes when the message has
// come. What is reserved is given back unless the message is accepted.
func (t *transaction) reserve(pkg string, limits []policy.Limit, fate *fateOfOne) error {
	var asks []limit.Ask
	for _, l := range limits {
		if a, now := t.ask(pkg, l); now {
			asks = append(asks, a)
		}
	}
	if pkg == stageRecipient {
		for _, l := range t.perRecipient {
			asks = append(asks, askFor(l, 1))
		}
	}
	if pkg == stageMessage {
		for _, l := range t.perByte {
			asks = append(asks, askFor(l, t.draft.Size()))
		}
	}
	return t.reserveAsks(asks, fate)
}

// The stages of a submission, as policies name them.
const (
	stageSender    = "behalf.submission.sender"
	stageRecipient = "behalf.submission.recipient"
	stageMessage   = "behalf.submission.message"
)

// ask turns a limit into what is reserved now, or keeps it for later.
func (t *transaction) ask(pkg string, l policy.Limit) (limit.Ask, bool) {
	a := askFor(l, 1)
	switch l.Count {
	case policy.CountMessages:
		if t.counted[a.Key] {
			return a, false
		}
		t.counted[a.Key] = true
	case policy.CountRecipients:
		if pkg == stageSender {
			t.perRecipient = append(t.perRecipient, l)
			return a, false
		}
		if pkg == stageMessage {
			a.N = int64(len(t.recipients))
		}
	case policy.CountBytes:
		if pkg != stageMessage {
			if !t.counted[a.Key] {
				t.counted[a.Key] = true
				t.perByte = append(t.perByte, l)
			}
			return a, false
		}
		a.N = t.draft.Size()
	}
	return a, true
}

// askFor names the key of a limit by its rule, window and count too, so that
// two rules never share a counter by accident.
func askFor(l policy.Limit, n int64) limit.Ask {
	key := append([]string{l.Rule, string(l.Count), l.Per.String()}, l.Key...)
	return limit.Ask{Key: limit.Key(key...), Rate: l.Rate, Per: l.Per, Burst: l.Burst, N: n, Over: limit.Over(l.Over), MaxWait: l.MaxWait}
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

// reserveAddress counts a message that goes by method address.
func (t *transaction) reserveAddress(m *mail.Message) error {
	if m.Wishes[0].Methods[0] != mail.MethodAddress {
		return nil
	}
	return t.reserveAsks([]limit.Ask{addressAsk(t.view, 1)}, &t.fate)
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

// usage is what the tenant sent of late, for policies.
func (t *transaction) usage(ctx context.Context) (*policy.Usage, error) {
	all, own, err := t.in.Usage.Get(ctx, t.view.Tenant.ID, t.p.Username, t.now)
	if err != nil {
		return nil, fmt.Errorf("reading the usage of %s: %w", t.view.Tenant.Name, err)
	}
	return &policy.Usage{
		Hour: policy.Window(all.Hour), Day: policy.Window(all.Day),
		Credential: policy.CredentialUsage{Hour: policy.Window(own.Hour), Day: policy.Window(own.Day)},
	}, nil
}
