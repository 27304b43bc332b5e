package relay

import (
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
	reason    string    // of a hold or discard
	rule      string    // of a hold, as file:rule
	releaseAt time.Time // of a hold; zero: by a person only
	notBefore time.Time

	// Of a recipient: whether the tenant has not mailed it of late, and what of
	// the reservation it took.
	firstTime bool
	took      [2]int
}

// take adds a decision; the stronger action wins.
func (f *fateOfOne) take(d policy.Decision) {
	f.pace(d.Until)
	switch d.Action {
	case policy.Hold:
		f.holdBy(d.Rules, d.Reason, d.ReleaseAt)
	case policy.Discard:
		f.discard(d.Reason)
	}
}

// holdBy is hold by a rule, the first of a decision.
func (f *fateOfOne) holdBy(rules []string, reason string, until time.Time) {
	was := *f
	f.hold(reason, until)
	if len(rules) > 0 && (was.action < policy.Hold || was.reason != f.reason) {
		f.rule = rules[0]
	}
}

// add puts what was decided elsewhere on top.
func (f *fateOfOne) add(g fateOfOne) {
	f.pace(g.notBefore)
	switch g.action {
	case policy.Hold:
		f.holdBy([]string{g.rule}, g.reason, g.releaseAt)
	case policy.Discard:
		f.discard(g.reason)
	}
}

func (f *fateOfOne) discard(reason string) {
	if f.action < policy.Discard {
		f.action, f.reason = policy.Discard, reason
	}
}

// hold keeps it until the latest of all times given, and without end if one of
// the holds has none.
func (f *fateOfOne) hold(reason string, until time.Time) {
	switch {
	case f.action > policy.Hold:
		return
	case f.action < policy.Hold:
		f.action, f.reason, f.releaseAt = policy.Hold, reason, until
	case f.releaseAt.IsZero():
	case until.IsZero() || until.After(f.releaseAt):
		f.reason, f.releaseAt = reason, until
	}
}

// pace delays it; the zero time does not.
func (f *fateOfOne) pace(until time.Time) {
	if until.IsZero() {
		return
	}
	f.action = max(f.action, policy.Pace)
	if until.After(f.notBefore) {
		f.notBefore = until
	}
}

// apply puts it on a recipient that is queued. A hold that ends by itself does
// not end before the time that the recipient must wait for anyway.
func (f *fateOfOne) apply(r *mail.Recipient, now time.Time) {
	if f.notBefore.After(r.Next) {
		r.Next, r.NotBefore = f.notBefore, f.notBefore
	}
	switch f.action {
	case policy.Discard:
		*r = r.End(mail.Discarded, f.reason, now)
	case policy.Hold:
		until := f.releaseAt
		if !until.IsZero() {
			until = later(until, r.Next)
		}
		*r = r.Hold(f.reason, until)
		r.HeldBy, r.Rule = mail.HeldByPolicy, f.rule
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
