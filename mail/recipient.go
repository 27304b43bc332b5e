package mail

import (
	"encoding/binary"
	"strings"
	"time"
)

// State is where a recipient of a message stands.
type State string

// The states. Queued and Held are the only ones that time changes; "deferred"
// is how a queued recipient that has been tried is shown to people.
const (
	Queued     State = "queued"
	Held       State = "held"
	Delivered  State = "delivered"
	Failed     State = "failed"  // refused for good
	Bounced    State = "bounced" // reported back after delivery
	Expired    State = "expired"
	Cancelled  State = "cancelled"
	Suppressed State = "suppressed"
	Discarded  State = "discarded"
)

// Deferred is the name shown for a Queued recipient after a first try.
const Deferred State = "deferred"

// Final reports whether nothing more will be tried.
func (s State) Final() bool { return s != Queued && s != Held }

// CanBecome reports whether a recipient in state s may go to state to.
func (s State) CanBecome(to State) bool {
	switch s {
	case Queued:
		return to != Bounced
	case Held:
		return to == Queued || to == Cancelled || to == Expired
	case Delivered:
		return to == Bounced
	}
	return false
}

// Notify is the set of NOTIFY conditions of RCPT TO (RFC 3461, section 4.1).
// Zero means that the client gave none.
type Notify uint8

// The conditions.
const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// Wants reports whether the client asked to be told of n. Without NOTIFY that
// is failure and delay.
func (n Notify) Wants(what Notify) bool {
	if n == 0 {
		return what&(NotifyFailure|NotifyDelay) != 0
	}
	return n&what != 0 && n&NotifyNever == 0
}

// Lane is a queue's first half (the tenant is the other): where the recipient
// goes next and in which stream, "upstream|domain|stream". The domain is empty
// where the upstream is one place.
type Lane string

// LaneFor is the lane of a recipient at domain that goes out through u.
func LaneFor(u UpstreamID, domain, stream string) Lane {
	if u != UpstreamMX {
		domain = ""
	}
	return Lane(string(u) + "|" + domain + "|" + stream)
}

// Parts takes a lane apart.
func (l Lane) Parts() (u UpstreamID, domain, stream string) {
	a, rest, _ := strings.Cut(string(l), "|")
	domain, stream, _ = strings.Cut(rest, "|")
	return UpstreamID(a), domain, stream
}

// Recipient is one address of a message and all that changes about it.
type Recipient struct {
	Address Address   `json:"address" cbor:"1,keyasint"`
	ORcpt   string    `json:"orcpt,omitempty" cbor:"2,keyasint,omitempty"` // RFC 3461, with its type
	Notify  Notify    `json:"-" cbor:"3,keyasint,omitempty"`
	State   State     `json:"state" cbor:"4,keyasint"`
	Wish    int       `json:"wish" cbor:"5,keyasint,omitempty"`  // index in Message.Wishes
	Tries   int       `json:"tries" cbor:"6,keyasint,omitempty"` // attempts so far
	Lane    Lane      `json:"lane" cbor:"7,keyasint,omitempty"`
	Next    time.Time `json:"next,omitzero" cbor:"8,keyasint,omitempty"` // when queued: not before; when held: released by itself, if set
	Last    *Failure  `json:"last,omitempty" cbor:"9,keyasint,omitempty"`
	// Trouble is when the run of attempts without any session began.
	Trouble time.Time `json:"-" cbor:"10,keyasint,omitempty"`
	// Pinned is set once a destination answered or may have taken the message:
	// from then on only this wish is used.
	Pinned bool   `json:"pinned,omitempty" cbor:"11,keyasint,omitempty"`
	Reason string `json:"reason,omitempty" cbor:"12,keyasint,omitempty"` // of a hold, cancellation, discard
	// Step counts the waits of the present kind, for the retry schedule.
	Step int       `json:"-" cbor:"13,keyasint,omitempty"`
	Done time.Time `json:"done,omitzero" cbor:"14,keyasint,omitempty"` // when the state became final
	// NotBefore is set where policy or a limit lets this recipient wait longer
	// than its message: nobody's wish brings a try forward past it.
	NotBefore time.Time `json:"-" cbor:"15,keyasint,omitempty"`
	// HeldBy says who may release it while it is held.
	HeldBy string `json:"-" cbor:"16,keyasint,omitempty"`
	// Rule of policy that holds it, as file:rule.
	Rule string `json:"rule,omitempty" cbor:"17,keyasint,omitempty"`
}

// Who holds a recipient. A tenant does not release what policy or an
// administrator holds.
const (
	HeldByPolicy = "policy"
	HeldByAdmin  = "admin"
	HeldByTenant = "tenant"
)

// Shown is the state as people are told it.
func (r Recipient) Shown() State {
	if r.State == Queued && r.Tries > 0 {
		return Deferred
	}
	return r.State
}

// Attempt is one try at one recipient, as it is told in the trace.
type Attempt struct {
	At       time.Time     `json:"at" cbor:"1,keyasint"`
	Took     time.Duration `json:"took" cbor:"2,keyasint"`
	Wish     int           `json:"wish" cbor:"3,keyasint,omitempty"`
	Upstream UpstreamID    `json:"upstream" cbor:"4,keyasint"`
	Method   Method        `json:"method,omitempty" cbor:"5,keyasint,omitempty"`
	Host     string        `json:"host,omitempty" cbor:"6,keyasint,omitempty"`
	Addr     string        `json:"addr,omitempty" cbor:"7,keyasint,omitempty"`
	TLS      string        `json:"tls,omitempty" cbor:"8,keyasint,omitempty"`   // version, cipher, and how it was authenticated
	Reply    string        `json:"reply,omitempty" cbor:"9,keyasint,omitempty"` // verbatim
	From     string        `json:"from,omitempty" cbor:"10,keyasint,omitempty"` // envelope sender used
	Signed   []string      `json:"signed,omitempty" cbor:"11,keyasint,omitempty"`
	Failure  *Failure      `json:"failure,omitempty" cbor:"12,keyasint,omitempty"` // nil: taken
}

// Schedule says when to try again.
type Schedule struct {
	Retry         []time.Duration // waits after a 4xx answer; the last one repeats
	RetryConnect  []time.Duration // waits when no session could be had; likewise
	FailoverAfter time.Duration   // without a session that long: the next wish
}

// DefaultSchedule is used where the configuration says nothing.
func DefaultSchedule() Schedule {
	return Schedule{
		Retry:         []time.Duration{5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour},
		RetryConnect:  []time.Duration{15 * time.Second, 45 * time.Second, 2 * time.Minute, 5 * time.Minute},
		FailoverAfter: 45 * time.Second,
	}
}

// The bounds of a wait that a peer asked for.
const (
	minRetryAfter = 30 * time.Second
	maxRetryAfter = 4 * time.Hour
)

// After is the recipient after an attempt: the whole state machine of delivery.
// It is pure; ends is the attempt's end.
//
// A failure of the route, of ours, or the lack of any session for
// s.FailoverAfter moves on to the next wish at once. Once a destination has
// answered, or the answer to the final dot is missing, the recipient is pinned
// to its wish: another way could deliver twice or hide from greylisting.
func (r Recipient) After(a Attempt, m *Message, s Schedule) Recipient {
	if r.State.Final() {
		return r
	}
	ends := a.At.Add(a.Took)
	r.State = Queued // the outcome of an attempt beats a hold that came later
	r.Tries++
	r.Last = a.Failure
	f := a.Failure
	switch {
	case f == nil:
		return r.end(Delivered, ends)
	case f.Temporary():
	case f.Reason == ReasonCannotCarry && f.Scope == OfMessage && !r.Pinned && r.Wish+1 < len(m.Wishes):
		return r.use(r.Wish+1, m, ends) // another hop may be able to
	case f.Scope != OfRoute && f.Scope != OfUs:
		return r.end(Failed, ends)
	}
	answered := f.Stage == StageSession && f.Scope != OfRoute && f.Scope != OfUs
	if (answered || f.Stage == StageFinal) && !r.Pinned {
		r.Pinned, r.Step = true, 0
	}
	connect := f.Stage == StageConnect && f.Scope == OfDestination
	if !connect {
		r.Trouble = time.Time{}
	} else if r.Trouble.IsZero() {
		r.Trouble = a.At
	}
	if !ends.Before(m.Expires) {
		return r.end(Expired, ends)
	}
	last := r.Wish+1 >= len(m.Wishes)
	if !r.Pinned && !last {
		route := f.Scope == OfRoute || f.Scope == OfUs && f.Stage != StagePrepare
		if route || connect && ends.Sub(r.Trouble) >= s.FailoverAfter {
			return r.use(r.Wish+1, m, ends)
		}
	}
	waits := s.Retry
	if connect || f.Scope == OfUs {
		waits = s.RetryConnect
	}
	round := !r.Pinned && last && r.Wish > 0 // all ways have been tried
	step := r.Step
	if round {
		step = max(step, r.Tries/len(m.Wishes)-1) // so that later rounds wait longer
	}
	wait := s.jitter(m.ID, r.Tries, pick(waits, step))
	r.Step++
	if connect && !r.Pinned && !last {
		wait = min(wait, max(0, r.Trouble.Add(s.FailoverAfter).Sub(ends)))
	}
	if f.RetryAfter > 0 {
		wait = min(max(f.RetryAfter, minRetryAfter), maxRetryAfter)
	}
	if round {
		r = r.use(0, m, ends) // begin again with the best
		r.Step++
	}
	r.Next = ends.Add(wait)
	if r.Next.After(m.Expires) {
		r.Next = m.Expires
	}
	return r
}

// use moves the recipient to another wish, due at once.
func (r Recipient) use(wish int, m *Message, now time.Time) Recipient {
	r.Wish, r.Next, r.Trouble, r.Step = wish, now, time.Time{}, 0
	r.Lane = LaneFor(m.Wishes[wish].Upstream, r.Address.Domain, m.Stream)
	return r
}

// end puts the recipient into a final state.
func (r Recipient) end(s State, now time.Time) Recipient {
	r.State, r.Next, r.Trouble, r.Done = s, time.Time{}, time.Time{}, now
	return r
}

// End is the recipient in the final state s, with the reason for people. It
// returns r itself when r may not go there.
func (r Recipient) End(s State, reason string, now time.Time) Recipient {
	if !r.State.CanBecome(s) || !s.Final() {
		return r
	}
	r.Reason = reason
	return r.end(s, now)
}

// Hold is the recipient held for reason, to be released by itself at until
// unless that is zero.
func (r Recipient) Hold(reason string, until time.Time) Recipient {
	if r.State == Queued {
		r.State, r.Reason, r.Next = Held, reason, until
	}
	return r
}

// Release is the recipient queued again, due now.
func (r Recipient) Release(now time.Time) Recipient {
	if r.State == Held {
		r.State, r.Reason, r.Next, r.HeldBy, r.Rule = Queued, "", now, "", ""
	}
	return r
}

func pick(waits []time.Duration, step int) time.Duration {
	if len(waits) == 0 {
		return 5 * time.Minute
	}
	return waits[min(step, len(waits)-1)]
}

// jitter spreads d by up to a fifth either way, the same for the same message
// and try, so that a restart does not change the schedule.
func (s Schedule) jitter(id ID, tries int, d time.Duration) time.Duration {
	h := binary.BigEndian.Uint32(id[12:]) + uint32(tries)*2654435761
	h ^= h >> 15
	h *= 2246822519
	h ^= h >> 13
	return d + time.Duration(float64(d)*0.2*(float64(h%2001)/1000-1))
}
