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
	t.in.board.saw(t.view.Tenant.ID, t.now, b, v)
	t.alarms = t.warned(t.alarms, b, v)
	e := &OverLimit{standing(b, v.Binding)}
	e.Wait = v.Wait
	e.Shared = t.shares(e.Key)
	return e.failure()
}

// passed is what becomes of a batch that was granted.
func (t *transaction) passed(b *batch, v limit.Verdict) {
	t.in.board.saw(t.view.Tenant.ID, t.now, b, v)
	t.crossed = t.warned(t.crossed, b, v)
	for i := range b.asks {
		s := standing(b, i)
		s.Shared = t.shares(s.Key)
		t.standings.note(s, b.asks[i].Key)
	}
}

func (t *transaction) shares(key []string) bool {
	return shared(key, t.view.Tenant.ID, t.view.Tenant.Name)
}

// shared tells whether what a limit counts is not a tenant's alone: its key
// names neither the tenant nor one of its credentials.
func shared(key []string, id mail.TenantID, name string) bool {
	number := strconv.FormatUint(uint64(id), 10)
	for _, k := range key {
		if k == number || k == name || strings.HasPrefix(k, name) && k[len(name)] == '/' {
			return false
		}
	}
	return true
}

// warned appends the thresholds that a batch has passed.
func (t *transaction) warned(to []mail.LimitEvent, b *batch, v limit.Verdict) []mail.LimitEvent {
	for _, w := range v.Warnings {
		s := standing(b, w.Ask)
		to = append(to, mail.LimitEvent{Rule: s.Rule, Key: s.Key, Count: string(s.Count), Rate: s.Rate, Per: s.Per.String(),
			Used: s.Used(), Allowed: s.Allowed(), Percent: w.Percent, Reset: s.ResetAt})
	}
	return to
}

// What a limit event costs is bounded too: a rule that counts by recipient has
// as many limits as there are recipients.
const limitEventsPerHour = 60

// tellLimits writes, logs and counts the warnings of a transaction: those that
// refused something, and if the message was kept those that it was the first to
// reach. It comes after the fact, so that a failure, which is logged, changes
// nothing about the message.
func (t *transaction) tellLimits() {
	list := t.alarms
	if !t.id.IsZero() {
		list = append(list, t.crossed...)
	}
	if len(list) == 0 {
		return
	}
	var events []mail.Event
	for i := range list {
		e := &list[i]
		t.in.o.Metrics.warnedOfLimit(e.Percent)
		cap := limit.Ask{Key: limit.KeyOf("limit-events", strconv.FormatUint(uint64(t.view.Tenant.ID), 10)), Rate: limitEventsPerHour, Per: time.Hour, Burst: limitEventsPerHour}
		var r limit.Reservation
		if !t.in.Limits.Reserve(t.now, []limit.Ask{cap}, &r).OK {
			continue
		}
		t.in.o.Log.Warn("a limit is nearly used up or reached", "tenant", t.view.Tenant.Name, "credential", t.p.Username, "rule", e.Rule, "key", e.Key,
			"used", e.Used, "allowed", e.Allowed, "percent", e.Percent, "reset", e.Reset)
		ev := mail.Event{At: t.now, Type: mail.EventLimitWarning, Tenant: t.view.Tenant.ID, Limit: e}
		if e.Percent >= 100 {
			ev.Type = mail.EventLimitReached
		}
		if i >= len(t.alarms) {
			ev.Message = t.id
		}
		events = append(events, ev)
	}
	if len(events) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := t.in.Spool.Update(ctx, func(w kv.Writer) error { return t.in.Spool.Append(w, events...) }); err != nil {
		t.in.o.Log.Error("an event about a limit was not written", "tenant", t.view.Tenant.Name, "events", len(events), "err", err)
	}
}
