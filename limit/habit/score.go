package habit

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"behalf/mail"
)

// Question is about one message.
type Question struct {
	Tenant     mail.TenantID
	Credential string
	Now        time.Time
	New        int64 // recipients whom the tenant has not mailed of late
	Text       Text  // not needed without new recipients
	Size       int64 // octets
	// Everywhere tells that the credential may be used for several tenants.
	Everywhere bool
	// Recipients and Bounces of the credential's last 24 hours; they need not be
	// known.
	Recipients, Bounces int64
}

// Answer is how far a message is from what is usual.
type Answer struct {
	Score   int64 // sum of the points, at most 100
	Reasons []Reason
	// NewRecipients are those of the last 24 hours that were not held, with those
	// that are being decided on: of the credential, or of all credentials of the
	// tenant or all tenants of the credential, whichever gave the score.
	NewRecipients int64
	Held          int64 // messages of the credential that are held by now
	// Octets held of the credential's messages and of all of the tenant, with
	// those of others that are being decided on.
	HeldOctets, TenantHeldOctets int64
}

// Text is the reasons in one line.
func (a Answer) Text() string {
	var parts []string
	for _, r := range a.Reasons {
		parts = append(parts, r.Detail)
	}
	return strings.Join(parts, "; ")
}

// Reason is a part of a score.
type Reason struct {
	Name   string `json:"name" cbor:"1,keyasint"`
	Points int64  `json:"points" cbor:"2,keyasint"`
	Detail string `json:"detail" cbor:"3,keyasint"`
}

// Over is the score from which a message is as unusual as one that goes beyond
// what new recipients alone allow.
const Over = 60

// The names of reasons.
const (
	Volume        = "volume"
	NewRecipients = "new_recipients"
	Hour          = "hour"
	Content       = "content"
	Bounces       = "bounces"
)

func (a *Answer) add(name string, points int64, detail string, args ...any) {
	if points <= 0 {
		return
	}
	a.note(name, points, fmt.Sprintf(detail, args...))
}

func (a *Answer) note(name string, points int64, detail string) {
	a.Reasons = append(a.Reasons, Reason{name, points, detail})
	a.Score = min(100, a.Score+points)
}

// How much more than usual goes through by the kind of text: mail of a known
// text may well have a great day.
func stretch(k kind) (day, hour float64) {
	if k == known {
		return 8, 10
	}
	return 2, 4
}

// The floor reaches so far; beyond it, and where other kinds have used it up,
// spare new recipients pass all the same.
const (
	floorStretch = 1.35
	spare        = 10
)

// score says how unusual a message of kind k is at a time of the profile's clock.
// Its own new recipients are among those flying.
func (p *profile) score(q *Question, now time.Time, of level, k kind, r *recent, o *Options) (a Answer) {
	w := p.window(now)
	for _, n := range w.day {
		a.NewRecipients += n
	}
	if q.New > 0 {
		p.scoreNew(&a, &w, of, k, o)
		p.scoreContent(&a, &w, of, k, r, o)
	}
	if of != ofCredential {
		return a
	}
	u := &p.Usual
	if f := ratio(float64(w.messages), max(float64(o.Floor)/2, float64(u.Messages))); f > 2 {
		if points := int64(within(5*log2(f), 0, 20)); points > 0 { // as it is for each message of a great hour
			text := append(strconv.AppendInt(make([]byte, 0, 64), w.messages, 10), " messages in this hour; usual are at most "...)
			a.note(Volume, points, string(strconv.AppendInt(text, round(u.Messages), 10)))
		}
	}
	p.scoreHour(&a, hourOf(now))
	if f := ratio(float64(q.Bounces), float64(q.Recipients)); q.Recipients >= 50 && f >= 0.05 {
		a.add(Bounces, int64(within(f*200, 10, 20)), "%d of %d recipients of the last 24 hours bounced", q.Bounces, q.Recipients)
	}
	return a
}

// bounds are how many new recipients of one kind may pass in 24 hours and in
// one.
func (p *profile) bounds(w *window, k kind, o *Options) (day, hour float64) {
	others := float64(0)
	for other := range kinds {
		if other != k {
			others += float64(w.day[other])
		}
	}
	free := floorStretch * max(float64(o.Floor)-others, spare)
	day, hour = float64(p.Usual.DayRoom[k]), float64(p.Usual.HourRoom[k])
	if k == mass { // a text that becomes known does not have its room twice
		day = min(day, float64(p.Usual.AllRoom)-others)
	}
	return max(free, day), max(free, hour)
}

// scoreNew compares the new recipients with their bounds: the points rise from
// three quarters of a bound on, and beyond it are [Over] at least.
func (p *profile) scoreNew(a *Answer, w *window, of level, k kind, o *Options) {
	day, hour := p.bounds(w, k, o)
	inDay, inHour := float64(w.day[k])/day, float64(w.hour[k])/hour
	seen, usual, span := w.day[k], round(p.Usual.Day[k]), "24 hours"
	f := inDay
	if inHour > inDay {
		f, seen, usual, span = inHour, w.hour[k], round(p.Usual.Hour[k]), "an hour"
	}
	points := int64(within((f-0.75)*4*(Over-1), 0, Over-1))
	if f > 1 {
		points = Over + int64(within(10*log2(f), 0, 20))
	}
	if of == ofPlatform { // how much others send is no tenant's business
		a.add(NewRecipients, points, "more new recipients than usual%s by %s", of, k)
		return
	}
	a.add(NewRecipients, points, "%d new recipients%s in %s by %s; usual are at most %d, and %d of all kinds are free", seen, of, span, k, usual, o.Floor)
}

// scoreContent looks at mass mail: of a text that is held already, or of new
// texts beyond what is usual.
func (p *profile) scoreContent(a *Answer, w *window, of level, k kind, r *recent, o *Options) {
	switch {
	case k != mass:
	case of == ofPlatform && r.blamed():
		a.add(Content, Over, "mail of this text is held%s", of)
	case of == ofPlatform:
	case r.blamed():
		a.add(Content, Over, "%d messages of this text were held%s; it came %d times of late", r.Held, of, r.Seen)
	case w.day[known]+w.day[single]+w.day[mass] > o.Floor:
		f := ratio(float64(w.day[mass]), float64(p.Usual.Day[mass]))
		a.add(Content, int64(within(20*(f-1), 0, 20)), "%d messages of late%s have this text, which is new; usual are %d new recipients a day by new texts", r.Seen, of, round(p.Usual.Day[mass]))
	}
}

// What must be known of a credential before an hour can be unusual.
const (
	hourDays     = 7
	hourMessages = 50
)

// scoreHour looks at the hour of the day, with the hours beside it.
func (p *profile) scoreHour(a *Answer, hour uint32) {
	var all float32
	for _, n := range p.Usual.Clock {
		all += n
	}
	if p.Usual.Days < hourDays || all < hourMessages {
		return
	}
	at := clockOf(hour)
	near := p.Usual.Clock[(at+23)%24] + p.Usual.Clock[at] + p.Usual.Clock[(at+1)%24]
	if share := near / all; share < 0.01 {
		a.add(Hour, 15, "%02d:00 UTC is an hour at which this credential does not send: %.1f %% of its messages come around then", at, 100*share)
	}
}
