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
}

// profile is what is known of one credential; about 1.5 KiB. Its exported
// fields are stored.
type profile struct {
	Hours   [hourSlots]hourCount `cbor:"1,keyasint"`
	Today   uint16               `cbor:"2,keyasint"` // the day that has not yet taught
	Usual   usual                `cbor:"3,keyasint"`
	Texts   texts                `cbor:"4,keyasint"`
	Episode *Episode             `cbor:"5,keyasint,omitempty"`

	flying [kinds]int64 // new recipients that are being decided on
	asked  hourCount    // messages asked about in this hour, whatever became of them
}

// at gives the counts of an hour, cleared if they were of another.
func (p *profile) at(hour uint32) *hourCount {
	s := &p.Hours[hour%hourSlots]
	if s.Hour != hour {
		*s = hourCount{Hour: hour}
	}
	return s
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
		if s.Hour > hour || hour-s.Hour >= hourSlots || s.Hour == 0 {
			continue
		}
		for k, n := range s.New {
			w.day[k] += int64(n)
			switch hour - s.Hour {
			case 0:
				w.hour[k] += int64(n)
			case 1:
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
	p.Texts.learn(p.Today)
	if gap := today - p.Today - 1; gap > 0 {
		f := float32(math.Pow(fade, float64(gap)))
		for k := range p.Usual.Day {
			p.Usual.Day[k] *= f
			p.Usual.Hour[k] *= f
		}
		p.Usual.Messages *= f
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
