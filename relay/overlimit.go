package relay

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"behalf/internal/duration"
	"behalf/limit"
	"behalf/mail"
	"behalf/policy"
)

// LimitStanding is where one limit stands after a message was counted or
// refused by it.
type LimitStanding struct {
	policy.Limit
	Remaining int64         // that many would pass now
	ResetAt   time.Time     // when the whole burst may pass again; zero: now
	Wait      time.Duration // how long this message must wait for it, or would have to
	// Shared is set where the key is not the tenant's own, see [shared]: what is
	// left of it tells what others do, and is no tenant's business.
	Shared bool
}

// Name is the rule's own name, without the file.
func (s *LimitStanding) Name() string { return s.Rule[strings.LastIndexByte(s.Rule, ':')+1:] }

// Allowed is how many may pass at once.
func (s *LimitStanding) Allowed() int64 { return max(s.Burst, 1) }

// Used is how many of those allowed are used up.
func (s *LimitStanding) Used() int64 { return max(0, s.Allowed()-s.Remaining) }

// low tells whether a quarter is left at most, of enough to speak of.
func (s *LimitStanding) low() bool {
	return s.Allowed() >= leastTold && s.Used()*4 >= s.Allowed()*3
}

// leastTold is how many a limit must allow for a word about how few are left.
const leastTold = 4

// share is how much is left, from 0 to 1.
func (s *LimitStanding) share() float64 { return float64(s.Remaining) / float64(s.Allowed()) }

// compare orders by how pressing: the longest wait first, then the least left.
func (s *LimitStanding) compare(o *LimitStanding) int {
	switch {
	case s.Wait != o.Wait:
		return -int(max(-1, min(1, s.Wait-o.Wait)))
	case s.share() < o.share():
		return -1
	case s.share() > o.share():
		return 1
	}
	return 0
}

// words are the limit as a client is told of it. How much others may send is
// not told.
func (s *LimitStanding) words() string {
	if s.Shared {
		return "the limit " + s.Name() + ", which is shared with others"
	}
	text := fmt.Sprintf("the limit %s: %s in %s", s.Name(), s.things(s.Rate), duration.Text(s.Per))
	if float64(s.Allowed()) != s.Rate {
		text += fmt.Sprintf(", %d at once", s.Allowed())
	}
	return text
}

func (s *LimitStanding) things(n float64) string {
	unit := string(s.Count)
	if n == 1 {
		unit = strings.TrimSuffix(unit, "s")
	}
	return strconv.FormatFloat(n, 'f', -1, 64) + " " + unit
}

// OverLimit is the cause of a refusal by a limit.
type OverLimit struct{ LimitStanding }

func (e *OverLimit) Error() string { return "over " + e.words() }

// failure tells a client which limit refused it and when to come again.
func (e *OverLimit) failure() *mail.Failure {
	f := mail.Fail(452, mail.Enhanced{4, 7, 1}, mail.OfMessage, mail.ReasonRate, "over %s; ", e.words())
	f.Err = e
	if e.Wait == limit.Never {
		f.Text += "this is more at once than it ever allows, send less at a time"
		return f
	}
	wait := (e.Wait + time.Second - 1).Truncate(time.Second) // a second too early would be refused again
	f.Text += "try again in " + strconv.Itoa(max(1, int(wait.Seconds()))) + " seconds"
	f.RetryAfter = max(time.Second, wait)
	return f
}

// standing is where one limit of a batch stands.
func (t *transaction) standing(b *batch, i int) LimitStanding {
	return LimitStanding{Limit: b.rules[i], Remaining: b.asks[i].Remaining, ResetAt: b.asks[i].ResetAt, Wait: b.asks[i].Wait,
		Shared: shared(b.rules[i].Key, t.view.Tenant.ID, t.view.Tenant.Name)}
}

// maxStandings is of how many limits a client is told.
const maxStandings = 4

// standings are the most pressing limits that a message fell under.
type standings struct {
	n   int
	all [maxStandings]LimitStanding
}

// note keeps where a limit stands now, in place of where it stood before, if it
// is among the most pressing.
func (s *standings) note(at LimitStanding, key limit.Key) {
	worst := -1
	for i := range s.all[:s.n] {
		old := &s.all[i]
		if old.Rule == at.Rule && slices.Equal(old.Key, at.Key) && old.Per == at.Per {
			at.Wait = max(at.Wait, old.Wait)
			*old = at
			return
		}
		if worst < 0 || old.compare(&s.all[worst]) > 0 {
			worst = i
		}
	}
	switch {
	case s.n < maxStandings:
		s.all[s.n] = at
		s.n++
	case at.compare(&s.all[worst]) < 0:
		s.all[worst] = at
	}
}

// list gives them, the binding one first.
func (s *standings) list() []LimitStanding {
	out := slices.Clone(s.all[:s.n])
	slices.SortStableFunc(out, func(a, b LimitStanding) int { return a.compare(&b) })
	return out
}

// limitWords tell the client of an accepted message which limits slow it down,
// and of which little is left.
func limitWords(list []LimitStanding, now time.Time) []string {
	var out []string
	for i := range list {
		s := &list[i]
		switch {
		case s.Wait > 0 && s.Over == policy.OverHold:
			out = append(out, fmt.Sprintf("held until %s by %s", now.Add(s.Wait).UTC().Format(time.RFC3339), s.words()))
		case s.Wait > 0:
			out = append(out, fmt.Sprintf("delayed until %s by %s", now.Add(s.Wait).UTC().Format(time.RFC3339), s.words()))
		case s.low() && !s.Shared:
			out = append(out, fmt.Sprintf("%d left of %s", s.Remaining, s.words()))
		}
	}
	return out
}
