package relay

import (
	"time"

	"behalf/mail"
	"behalf/policy"
)

// fateOfOne is what policy and limits decided short of a refusal, about a
// message or about one of its recipients: to go at once, later, when released,
// or not at all.
type fateOfOne struct {
	action    policy.Action
	reason    string    // of a hold or discard
	releaseAt time.Time // of a hold; zero: by a person only
	notBefore time.Time
}

// take adds a decision; the stronger action wins.
func (f *fateOfOne) take(d policy.Decision) {
	switch d.Action {
	case policy.Hold:
		f.hold(d.Reason, d.ReleaseAt)
	case policy.Pace:
		f.pace(d.Until)
	case policy.Discard:
		f.action, f.reason = policy.Discard, d.Reason
	}
}

// hold keeps it until the latest of all times given, and without end if one of
// the holds has none.
func (f *fateOfOne) hold(reason string, until time.Time) {
	if f.action > policy.Hold {
		return
	}
	switch {
	case f.action < policy.Hold:
		f.releaseAt = until
	case f.releaseAt.IsZero() || until.IsZero():
		f.releaseAt = time.Time{}
	case until.After(f.releaseAt):
		f.releaseAt = until
	}
	f.action, f.reason = policy.Hold, reason
}

// pace delays it.
func (f *fateOfOne) pace(until time.Time) {
	f.action = max(f.action, policy.Pace)
	if until.After(f.notBefore) {
		f.notBefore = until
	}
}

// apply puts it on a recipient that is still queued.
func (f *fateOfOne) apply(r *mail.Recipient, now time.Time) {
	if f.notBefore.After(r.Next) {
		r.Next = f.notBefore
	}
	switch f.action {
	case policy.Discard:
		*r = r.End(mail.Discarded, f.reason, now)
	case policy.Hold:
		if r.State == mail.Queued {
			*r = r.Hold(f.reason, f.releaseAt)
		}
	}
}
