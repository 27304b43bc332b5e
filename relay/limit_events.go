package relay

import (
	"context"
	"strconv"
	"strings"
	"time"

	"behalf/internal/kv"
	"behalf/limit"
	"behalf/mail"
)

// refused is what becomes of a batch that a limit refused.
func (t *transaction) refused(b *batch, v limit.Verdict) error {
	t.in.board.saw(t.view.Tenant.ID, t.clock(), b, v)
	t.alarms = t.warned(t.alarms, b, v)
	e := &OverLimit{t.standing(b, v.Binding)}
	e.Wait = v.Wait
	return e.failure()
}

// passed is what becomes of a batch that was granted.
func (t *transaction) passed(b *batch, v limit.Verdict) {
	t.in.board.saw(t.view.Tenant.ID, t.clock(), b, v)
	t.crossed = t.warned(t.crossed, b, v)
	for i := range b.asks {
		t.standings.note(t.standing(b, i), b.asks[i].Key)
	}
}

// shared tells whether what a limit counts is not a tenant's alone. It is if the
// key has "tenant", and next to it the tenant's id or name, or "credential" and
// its id or one of its credentials; these may stand elsewhere by chance, as a
// tenant may be named like anything else.
func shared(key []string, id mail.TenantID, name string) bool {
	number := strconv.FormatUint(uint64(id), 10)
	for i, k := range key[:max(0, len(key)-1)] {
		switch next := key[i+1]; k {
		case "tenant":
			if next == number || next == name {
				return false
			}
		case "credential":
			if next == number || strings.HasPrefix(next, name+"/") {
				return false
			}
		}
	}
	return true
}

// warned appends the thresholds that a batch has passed.
func (t *transaction) warned(to []mail.LimitEvent, b *batch, v limit.Verdict) []mail.LimitEvent {
	for _, w := range v.Warnings {
		s := t.standing(b, w.Ask)
		to = append(to, mail.LimitEvent{Rule: s.Rule, Key: s.Key, Count: string(s.Count), Rate: s.Rate, Per: s.Per.String(),
			Used: s.Used(), Allowed: s.Allowed(), Percent: w.Percent, Reset: s.ResetAt, Shared: s.Shared})
	}
	return to
}

// What a limit event costs is bounded too: a rule that counts by recipient has
// as many limits as there are recipients.
const limitEventsPerHour = 60

// crossing are the events of the thresholds that a message is the first to
// reach. They are written with it.
func (t *transaction) crossing(id mail.ID) []mail.Event {
	t.told = t.limitEvents(t.crossed, id)
	return t.told
}

// tellLimits logs and counts the warnings of a transaction: those that refused
// something, whose events it writes, and if the message was kept those that it
// was the first to reach. It comes after the fact, so that a failure, which is
// logged, changes nothing.
func (t *transaction) tellLimits(kept bool) {
	for i := range t.alarms {
		t.in.o.Metrics.warnedOfLimit(t.alarms[i].Percent)
	}
	alarms := t.limitEvents(t.alarms, mail.ID{})
	t.logLimits(alarms)
	if kept {
		for i := range t.crossed {
			t.in.o.Metrics.warnedOfLimit(t.crossed[i].Percent)
		}
		t.logLimits(t.told)
	}
	if len(alarms) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := t.in.Spool.Update(ctx, func(w kv.Writer) error { return t.in.Spool.Append(w, alarms...) }); err != nil {
		t.in.o.Log.Error("an event about a limit was not written", "tenant", t.view.Tenant.Name, "events", len(alarms), "err", err)
	}
}

// limitEvents makes events of warnings, as many as the tenant may have. Those of
// a message that was refused have no id.
func (t *transaction) limitEvents(list []mail.LimitEvent, id mail.ID) []mail.Event {
	var events []mail.Event
	for i := range list {
		now := t.clock().UTC()
		most := limit.Ask{Key: limit.KeyOf("limit-events", strconv.FormatUint(uint64(t.view.Tenant.ID), 10)), Rate: limitEventsPerHour, Per: time.Hour, Burst: limitEventsPerHour}
		var r limit.Reservation
		if !t.in.Limits.Reserve(now, []limit.Ask{most}, &r).OK {
			break
		}
		e := mail.Event{At: now, Type: mail.EventLimitWarning, Message: id, Tenant: t.view.Tenant.ID, Limit: &list[i]}
		if list[i].Percent >= 100 {
			e.Type = mail.EventLimitReached
		}
		events = append(events, e)
	}
	return events
}

func (t *transaction) logLimits(events []mail.Event) {
	for _, e := range events {
		t.in.o.Log.Warn("a limit is nearly used up or reached", "tenant", t.view.Tenant.Name, "credential", t.p.Username, "rule", e.Limit.Rule, "key", e.Limit.Key,
			"used", e.Limit.Used, "allowed", e.Limit.Allowed, "percent", e.Limit.Percent, "reset", e.Limit.Reset)
	}
}
