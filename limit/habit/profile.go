package habit

import (
	"math"
	"time"
)

func hourOf(t time.Time) uint32           { return uint32(t.Unix() / 3600) }
func dayOf(hour uint32) uint16            { return uint16(hour / 24) }
func clockOf(hour uint32) int             { return int(hour % 24) }
func round(f float32) int64               { return int64(math.Round(float64(f))) }
func ratio(a, b float64) float64          { return a / max(b, 1) }
func log2(f float64) float64              { return math.Log2(max(f, 1)) }
func within(f, low, high float64) float64 { return max(low, min(f, high)) }

const hourSlots = 24 + 1

// hourCount is what passed in one hour.
type hourCount struct {
	Hour     uint32        `cbor:"1,keyasint,omitempty"`
	Messages uint32        `cbor:"2,keyasint,omitempty"`
	New      [kinds]uint32 `cbor:"3,keyasint"`
}

// usual is what a credential is used to send: the most of earlier days, each of
// which counts a little less the longer ago it is.
type usual struct {
	Day      [kinds]float32 `cbor:"1,keyasint"` // new recipients
	Hour     [kinds]float32 `cbor:"2,keyasint"`
	Messages float32        `cbor:"3,keyasint,omitempty"` // in an hour
	Clock    [24]float32    `cbor:"4,keyasint"`           // messages by hour of the day (UTC)
	Days     uint16         `cbor:"5,keyasint,omitempty"` // with mail
	// How many new recipients may pass: what is usual, stretched, as far as a
	// day's growth has let it come by now.
	DayRoom  [kinds]float32 `cbor:"6,keyasint"`
	HourRoom [kinds]float32 `cbor:"7,keyasint"`
	AllRoom  float32        `cbor:"8,keyasint,omitempty"` // for all kinds a day; mass mail has what the others leave
}

// profile is what is known of one credential; about 1.5 KiB. Its exported
// fields are stored.
type profile struct {
	Hours   [hourSlots]hourCount `cbor:"1,keyasint"`
	Today   uint16               `cbor:"2,keyasint"` // the day that has not yet taught
	Usual   usual                `cbor:"3,keyasint"`
	Texts   texts                `cbor:"4,keyasint"`
	Episode *Episode             `cbor:"5,keyasint,omitempty"`
	Octets  int64                `cbor:"6,keyasint,omitempty"` // of a tenant: held in all episodes

	newest uint32       // hour of the newest counts
	flying [kinds]int64 // new recipients that are being decided on
	holds  int64        // octets of messages being decided on that are likely to be held
	asked  hourCount    // messages asked about in this hour, whatever became of them
}

// clock gives the time to count by. It never goes back by itself: what was
// counted must neither be passed over nor be overwritten when the clock of the
// machine steps back, or when somebody asks with the time of long ago. Only a
// clock that was ahead by more than what is kept is not waited for; what was
// counted by it counts as of now.
func (p *profile) clock(now time.Time) time.Time {
	hour := hourOf(now)
	switch {
	case p.newest <= hour:
		return now
	case p.newest-hour <= hourSlots:
		return time.Unix(int64(p.newest)*3600, 0).UTC()
	}
	sum := hourCount{Hour: hour}
	for i := range p.Hours {
		s := &p.Hours[i]
		if s.Hour < hour {
			continue
		}
		sum.Messages += s.Messages
		for k, n := range s.New {
			sum.New[k] += n
		}
		*s = hourCount{}
	}
	p.Hours[hour%hourSlots] = sum
	p.newest, p.Today, p.asked = hour, min(p.Today, dayOf(hour)), hourCount{}
	p.Texts.back(hour)
	return now
}

// at gives the counts of an hour, or of a newer one that was counted already.
func (p *profile) at(hour uint32) *hourCount {
	p.newest = max(p.newest, hour)
	s := &p.Hours[p.newest%hourSlots]
	if s.Hour != p.newest {
		*s = hourCount{Hour: p.newest}
	}
	return s
}

// ready makes a profile that was read fit for use.
func (p *profile) ready() {
	for i := range p.Hours {
		p.newest = max(p.newest, p.Hours[i].Hour)
	}
}

// window is what passed of late: in 24 hours, and in 60 minutes, of which the
// last full hour counts as far as it reaches into them.
type window struct {
	day, hour [kinds]int64
	messages  int64 // in 60 minutes, those that were not taken included
}

func (p *profile) window(now time.Time) (w window) {
	hour := hourOf(now)
	left := 1 - float64(now.Unix()%3600)/3600
	for i := range p.Hours {
		s := &p.Hours[i]
		age := int64(hour) - int64(s.Hour)
		if age >= hourSlots {
			continue
		}
		for k, n := range s.New {
			w.day[k] += int64(n)
			switch {
			case age <= 0:
				w.hour[k] += int64(n)
			case age == 1:
				w.hour[k] += int64(float64(n) * left)
			}
		}
	}
	for k, n := range p.flying {
		w.day[k] += n
		w.hour[k] += n
	}
	if p.asked.Hour == hour {
		w.messages = int64(p.asked.Messages)
	}
	return w
}

// What a day takes from what was usual before it: half in 69 days; of the hours
// half in two weeks.
const (
	fade      = 0.99
	fadeClock = 0.95
)

// turn lets days that are over teach.
func (p *profile) turn(hour uint32, o *Options) {
	today := dayOf(hour)
	if p.Today == 0 {
		p.Today = today
	}
	if today <= p.Today {
		return
	}
	p.learn(o)
	for _, e := range p.Texts.learn(p.Today, o) {
		p.Usual.graduate(&e)
	}
	p.Usual.grow(o)
	if gap := today - p.Today - 1; gap > 0 {
		f := float32(math.Pow(fade, float64(gap)))
		for k := range p.Usual.Day {
			p.Usual.Day[k] *= f
			p.Usual.Hour[k] *= f
			p.Usual.DayRoom[k] *= f
			p.Usual.HourRoom[k] *= f
		}
		p.Usual.Messages *= f
		p.Usual.AllRoom *= f
	}
	p.Today = today
}

// learn takes over the counts of the day that ended.
func (p *profile) learn(o *Options) {
	var day, peak [kinds]float32
	var messages, most float32
	u := &p.Usual
	for i := range u.Clock {
		u.Clock[i] *= fadeClock
	}
	for i := range p.Hours {
		s := &p.Hours[i]
		if dayOf(s.Hour) != p.Today {
			continue
		}
		for k, n := range s.New {
			day[k] += float32(n)
			peak[k] = max(peak[k], float32(n))
		}
		messages += float32(s.Messages)
		most = max(most, float32(s.Messages))
		u.Clock[clockOf(s.Hour)] += float32(s.Messages)
	}
	if messages > 0 {
		u.Days++
	}
	for k := range kinds {
		u.Day[k] = rise(u.Day[k], day[k], o)
		u.Hour[k] = rise(u.Hour[k], peak[k], o)
	}
	u.Messages = rise(u.Messages, most, o)
}

// rise is what is usual after a day with n. Up to the floor it follows at once;
// beyond it grows by no more than the growth of a day, whatever came.
func rise(before, n float32, o *Options) float32 {
	most := max(before, float32(o.Floor)) * float32(o.Growth)
	return max(before*fade, min(n, most))
}

// graduate lets a text that is known from now on have the room that it had as a
// new one.
func (u *usual) graduate(e *text) {
	u.Day[known], u.DayRoom[known] = max(u.Day[known], e.Most), max(u.DayRoom[known], e.Most)
	peak := min(e.Most, max(u.Hour[known], u.Hour[single], u.Hour[mass]))
	u.Hour[known], u.HourRoom[known] = max(u.Hour[known], peak), max(u.HourRoom[known], peak)
}

// grow lets the room of each kind come closer to what is usual, stretched.
func (u *usual) grow(o *Options) {
	all := float32(0)
	for k := range kinds {
		day, hour := stretch(k)
		all += float32(day) * u.Day[k]
		u.DayRoom[k] = closer(u.DayRoom[k], float32(day)*u.Day[k], o)
		u.HourRoom[k] = closer(u.HourRoom[k], float32(hour)*u.Hour[k], o)
	}
	u.AllRoom = closer(u.AllRoom, all, o)
}

func closer(before, aim float32, o *Options) float32 {
	return min(aim, max(before, floorStretch*float32(o.Floor))*float32(o.Growth))
}

// allow makes n a day, and in an hour, usual at once.
func (u *usual) allow(k kind, n float32) {
	day, hour := stretch(k)
	u.Day[k], u.Hour[k] = max(u.Day[k], n), max(u.Hour[k], n)
	u.DayRoom[k], u.HourRoom[k] = max(u.DayRoom[k], float32(day)*n), max(u.HourRoom[k], float32(hour)*n)
	all := float32(0)
	for _, n := range u.DayRoom {
		all += n
	}
	u.AllRoom = max(u.AllRoom, all)
}
