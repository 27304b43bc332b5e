package dispatch

import (
	"strconv"
	"strings"
	"time"

	"behalf/mail"
	"behalf/spool"
)

// site is where the connections of some lanes end. It is shared by all queues
// that lead there, whatever their tenant and stream.
type site struct {
	key    string
	window Window
	pace   Pace
	busy   int // jobs under way

	answered time.Time // when somebody last had a session

	promised int // slots kept for queues on their way to the ring
	waiting  [2]turns
	resting  list // queues with nothing but what waits for the site to open
	turn     int  // picks so far, to let bulk have some
	lined    int  // queues in the ring that are not bulk
	queues   int
	ready    int // sum over its queues
	alarm    alarm
	used     time.Time

	open     bool
	epoch    int       // counts openings and closings
	closedAt time.Time // the last closing
	openings int       // of all sites, when its messages last looked for another way
	from     time.Time // while closed: when they look for one

	// Closed by a refusal of the route: a credential, a quota.
	suspended   time.Time // until then
	suspensions int       // credential refused, times in a row

	last, down, refusal *mail.Failure // the last of any kind, without a session, of the route
	slow                time.Duration // how long the last failure to connect took
	diverting           int           // jobs that look for another way
}

// suspendWaits are the waits after refusals of the route itself.
var suspendWaits = [...]time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 15 * time.Minute}

const (
	maxDiverting = 8 // such jobs of one site at once
	bulkShare    = 5 // each fifth slot goes to bulk mail if it waits too
	forgetAfter  = 10 * time.Minute
)

// siteKey is the site of a lane that is not mx: a connection belongs to its
// tenant, the others are the same for all.
func siteKey(q spool.Queue) (key string, ok bool) {
	u, _, _ := q.Lane.Parts()
	switch {
	case u == mail.UpstreamMX:
		return "", false
	case strings.HasPrefix(string(u), mail.ConnectionPrefix):
		return strconv.FormatUint(uint64(q.Tenant), 10) + "/" + string(u), true
	}
	return string(u), true
}

// shut reports whether mail waits here: the site is dead or its route was
// refused, and no probe has told otherwise yet.
func (s *site) shut(now time.Time) bool {
	_, dead := s.window.Dead()
	return dead || s.suspensions > 0 || s.suspended.After(now)
}

// probeAt is when one job may try a site that is closed.
func (s *site) probeAt() time.Time {
	if until, dead := s.window.Dead(); dead && until.After(s.suspended) {
		return until
	}
	return s.suspended
}

// mayProbe reports whether one job may try a closed site now.
func (s *site) mayProbe(now time.Time) bool {
	return s.busy+s.promised == 0 && !now.Before(s.probeAt())
}

// probe lets the next job try at once.
func (s *site) probe(now time.Time) {
	s.window.Probe(now)
	s.pace.Open()
	if s.suspended.After(now) {
		s.suspended = now
	}
}

// limit is how many jobs may be under way.
func (s *site) limit() int {
	if !s.open {
		return 1
	}
	return s.window.Size()
}

// silent reports whether nobody has had a session here lately.
func (s *site) silent(now time.Time) bool { return now.Sub(s.answered) > silentAfter }

// divertable reports whether messages here should look for another way now.
func (s *site) divertable(now time.Time) bool {
	return !s.open && !now.Before(s.from) && s.cause() != nil
}

// cause is why the site is closed.
func (s *site) cause() *mail.Failure {
	if s.suspensions > 0 || s.suspended.After(s.closedAt) {
		return s.refusal
	}
	return s.down
}

// wait puts q in line for a slot.
func (s *site) wait(q *queue) {
	if q.low {
		s.waiting[1].push(q)
	} else {
		s.waiting[0].push(q)
	}
}

// waiter takes the next queue in line. Bulk mail goes last, but not never, and
// not before what is in the ring already.
func (s *site) waiter() *queue {
	first := 0
	if (s.turn+1)%bulkShare == 0 {
		first = 1
	}
	q := s.waiting[first].pop()
	if q == nil && (first == 1 || s.lined == 0) {
		q = s.waiting[1-first].pop()
	}
	if q != nil {
		s.turn++
	}
	return q
}

// idle reports whether the site can be forgotten.
func (s *site) idle(now time.Time) bool {
	return s.queues == 0 && s.busy == 0 && s.diverting == 0 && now.Sub(s.used) > forgetAfter
}

// judge takes in what a job taught about the site.
func (s *site) judge(v verdict, now time.Time) {
	if v.kind >= alive {
		s.answered = now
	}
	if v.failure != nil {
		s.last = v.failure
	}
	switch v.kind {
	case taken:
		s.window.Taken(s.busy)
		s.pace.Grow(now)
	case alive:
		s.window.Alive()
	case refused:
		s.window.Refused()
	case unreachable:
		s.slow, s.down = v.took, v.failure
		s.window.Unreachable(v.began, now)
	case routeRefused:
		s.window.Alive()
		s.refusal = v.failure
		if !s.suspended.After(now) {
			s.suspended = now.Add(suspendWaits[min(s.suspensions, len(suspendWaits)-1)])
			s.suspensions++
		}
	}
	if v.kind >= alive && v.kind != routeRefused && !s.suspended.After(now) {
		s.suspensions = 0
	}
	if v.rate != nil && (v.kind != taken || ofAll(v.rate)) {
		s.heed(v.rate, now)
	}
}

// ofAll reports whether a complaint of the rate speaks of all that we send, and
// not of its recipient only, as greylisting does.
func ofAll(f *mail.Failure) bool { return f.Scope == mail.OfRoute || f.Code == 421 }

// heed obeys a complaint of the rate, and the wait it named if that is for all.
func (s *site) heed(f *mail.Failure, now time.Time) {
	s.pace.Slow(now, ofAll(f))
	if f.RetryAfter <= 0 {
		return
	}
	until := now.Add(min(f.RetryAfter, maxRetryAfter))
	switch {
	case f.Scope == mail.OfRoute && until.After(s.suspended):
		s.suspended, s.refusal = until, f
	case f.Code == 421:
		s.pace.Pause(until)
	}
}

// maxRetryAfter bounds a wait that a peer asks for, as mail.Recipient.After does.
const maxRetryAfter = 4 * time.Hour

// verdict is what the results of one job say about its site.
type verdict struct {
	kind    verdictKind
	failure *mail.Failure // the one that decided
	rate    *mail.Failure // a complaint of the rate, if there was one
	began   time.Time     // of that attempt, to the millisecond as the spool keeps times
	took    time.Duration
}

// verdictKind is ordered by what proves more about the site.
type verdictKind uint8

const (
	nothing      verdictKind = iota // the attempt never came so far
	unreachable                     // no session was had
	alive                           // a session was had, the fault is the message's
	refused                         // a session was had, the site did not want it
	taken                           // something was taken
	routeRefused                    // the credential is no good
)

// verdictOf reads a failure; nil is a success.
func verdictOf(f *mail.Failure) verdictKind {
	switch {
	case f == nil:
		return taken
	case f.Scope == mail.OfUs:
		return nothing
	case f.Scope == mail.OfRoute:
		if f.Reason == mail.ReasonAuth {
			return routeRefused
		}
		if f.Stage >= mail.StageSession {
			return alive
		}
		return nothing
	case f.Scope == mail.OfDestination && f.Stage == mail.StageConnect:
		return unreachable
	case f.Scope == mail.OfDestination:
		return refused
	case f.Stage < mail.StageConnect:
		return nothing
	}
	return alive
}

// add takes one recipient's result in. What proves most wins: a message taken
// over a refusal, a refusal over an answer about the recipient.
func (v *verdict) add(a *mail.Attempt) {
	f := a.Failure
	if f != nil && f.Reason == mail.ReasonRate && (f.Scope == mail.OfRoute || f.Scope == mail.OfDestination) {
		if v.rate == nil || f.RetryAfter > v.rate.RetryAfter {
			v.rate = f
		}
	}
	if k := verdictOf(f); k > v.kind {
		v.kind, v.failure = k, nil
		v.began, v.took = a.At.Truncate(time.Millisecond), a.Took
		if k != alive {
			v.failure = f
		}
	}
}
