package relay

import (
	"fmt"
	"slices"
	"time"

	"behalf/mail"
	"behalf/policy"
)

// fateOfOne is what policy and limits decided short of a refusal, about a
// message or about one of its recipients: to go at once, later, when released,
// or not at all. It is put on a recipient only when everything is known, so
// that the strongest word of all counts and not the first.
type fateOfOne struct {
	action    policy.Action
	held      held
	discarded string // why
	notBefore time.Time
	paced     cause // of notBefore

	// Of a recipient: whether the tenant has not mailed it of late, where its part
	// of the reservation begins, and which of that part count recipients.
	firstTime bool
	family    string // see [place]
	took      int
	counts    uint64
}

// cause is what decided something.
type cause struct {
	rule string // as file:rule
	why  string // for the timeline
}

// held is a hold.
type held struct {
	cause
	until   time.Time // zero: a person releases it
	byLimit bool      // clients are told of it as of a limit
}

// take adds a decision; the stronger action wins.
func (f *fateOfOne) take(d policy.Decision) {
	rule := ""
	if len(d.Rules) > 0 {
		rule = d.Rules[0] // the one that decided
	}
	f.pace(d.Until, cause{d.UntilBy, "paced by " + d.UntilBy})
	switch d.Action {
	case policy.Hold:
		f.hold(held{cause: cause{rule, d.Reason}, until: d.ReleaseAt})
	case policy.Discard:
		f.discard(d.Reason)
	}
}

// add puts what was decided elsewhere on top.
func (f *fateOfOne) add(g fateOfOne) {
	f.pace(g.notBefore, g.paced)
	switch g.action {
	case policy.Hold:
		f.hold(g.held)
	case policy.Discard:
		f.discard(g.discarded)
	}
}

func (f *fateOfOne) discard(reason string) {
	if f.action < policy.Discard {
		f.action, f.discarded = policy.Discard, reason
	}
}

// hold keeps it until the latest of all times given, and without end if one of
// the holds has none.
func (f *fateOfOne) hold(h held) {
	switch {
	case f.action > policy.Hold:
		return
	case f.action < policy.Hold:
		f.action, f.held = policy.Hold, h
	case f.held.until.IsZero():
	case h.until.IsZero() || h.until.After(f.held.until):
		f.held = h
	}
}

// pace delays it; the zero time does not.
func (f *fateOfOne) pace(until time.Time, by cause) {
	if until.IsZero() {
		return
	}
	f.action = max(f.action, policy.Pace)
	if until.After(f.notBefore) {
		f.notBefore, f.paced = until, by
	}
}

// rule is the rule of what it does.
func (f *fateOfOne) rule() string {
	if f.action == policy.Hold {
		return f.held.rule
	}
	return f.paced.rule
}

// apply puts it on a recipient that is queued. A hold that ends by itself does
// not end before the time that the recipient must wait for anyway.
func (f *fateOfOne) apply(r *mail.Recipient, now time.Time) {
	if f.notBefore.After(r.Next) {
		r.Next, r.NotBefore = f.notBefore, f.notBefore
	}
	switch f.action {
	case policy.Discard:
		*r = r.End(mail.Discarded, f.discarded, now)
	case policy.Hold:
		until := f.held.until
		if !until.IsZero() {
			until = later(until, r.Next)
		}
		*r = r.Hold(f.held.why, until)
		r.HeldBy, r.Rule = mail.HeldByPolicy, f.held.rule
	}
}

// pacing are the events of recipients that policy or a limit delays, one a
// cause, with the time at which the last of them may go.
func (t *transaction) pacing(m *mail.Message) []mail.Event {
	var events []mail.Event
	for i := range t.recipients {
		r, f := &t.recipients[i], &t.fates[i]
		if r.State != mail.Queued || f.notBefore.IsZero() || !f.notBefore.After(t.now) || r.Next.After(f.notBefore) {
			continue
		}
		k := slices.IndexFunc(events, func(e mail.Event) bool { return e.Reason == f.paced.why })
		if k < 0 {
			k = len(events)
			events = append(events, mail.Event{At: m.Accepted, Type: mail.EventPaced, Message: m.ID, Reason: f.paced.why})
		}
		e := &events[k]
		e.Recipients, e.Next = append(e.Recipients, i), later(e.Next, f.notBefore)
	}
	if len(events) == 1 && len(events[0].Recipients) == len(t.recipients) {
		events[0].Recipients = nil // all
	}
	return events
}

// maxFateWords bounds what a client is told of the fates of recipients, who may
// all have different ones.
const maxFateWords = 4

// fateWords tell the client of an accepted message why it, or some of its
// recipients, do not go.
func (t *transaction) fateWords() []string {
	type word struct {
		state  mail.State
		reason string
		until  time.Time
		n      int
	}
	var words []word
	more := 0
	for i := range t.recipients {
		r := &t.recipients[i]
		if r.State != mail.Discarded && r.State != mail.Held || r.State == mail.Held && t.fates[i].held.byLimit {
			continue
		}
		w := word{r.State, r.Reason, r.Next, 1}
		k := slices.IndexFunc(words, func(o word) bool { return o.state == w.state && o.reason == w.reason && o.until.Equal(w.until) })
		switch {
		case k >= 0:
			words[k].n++
		case len(words) < maxFateWords:
			words = append(words, w)
		default:
			more++
		}
	}
	var out []string
	for _, w := range words {
		text := string(w.state)
		if w.state == mail.Held && !w.until.IsZero() {
			text += " until " + w.until.UTC().Format(time.RFC3339)
		}
		if w.n < len(t.recipients) {
			text += fmt.Sprintf(" for %d of %d recipients", w.n, len(t.recipients))
		}
		out = append(out, text+": "+w.reason)
	}
	if more > 0 {
		out = append(out, fmt.Sprintf("held or discarded for %d more recipients", more))
	}
	return out
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
