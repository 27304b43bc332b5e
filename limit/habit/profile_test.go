package habit

import (
	"math"
	"testing"
	"time"
)

// What is usual follows a day at once up to the floor, grows by no more than the
// growth of a day above it, and fades by a hundredth a day.
func TestRise(t *testing.T) {
	o := &Options{Floor: 200, Growth: 1.15}
	for _, c := range []struct {
		name            string
		before, n, want float32
	}{
		{"the first day", 0, 80, 80},
		{"the first day at the floor", 0, 200, 200},
		{"the first day far above", 0, 50_000, 230},
		{"the same again", 80, 80, 80},
		{"less", 100, 20, 99},
		{"nothing", 100, 0, 99},
		{"more, below the floor", 100, 190, 190},
		{"more, above it", 1000, 1100, 1100},
		{"ten times as much", 1000, 10_000, 1150},
	} {
		if got := rise(c.before, c.n, o); math.Abs(float64(got-c.want)) > 0.01 {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	// So somebody who sends all he can each day needs this long for ten times the floor.
	usual, days := float32(0), 0
	for ; usual < 2000; days++ {
		usual = rise(usual, math.MaxInt32, o)
	}
	if days < 16 || days > 18 {
		t.Errorf("%d days", days)
	}
}

// The last 24 hours are those that the clock says, and of the hour before this
// one as much counts as reaches into the last 60 minutes.
func TestWindow(t *testing.T) {
	noon := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name      string
		ago       time.Duration // when 100 were sent
		now       time.Time
		day, hour int64
	}{
		{"this hour", 0, noon, 100, 100},
		{"the hour before, at once", time.Hour, noon, 100, 100},
		{"the hour before, in part", time.Hour, noon.Add(45 * time.Minute), 100, 25},
		{"two hours ago", 2 * time.Hour, noon, 100, 0},
		{"24 hours ago", 24 * time.Hour, noon, 100, 0},
		{"25 hours ago", 25 * time.Hour, noon, 0, 0},
		{"a year ago", 365 * 24 * time.Hour, noon, 0, 0},
		{"the clock was set back", -2 * time.Hour, noon, 100, 100},
	} {
		var p profile
		p.at(hourOf(c.now.Add(-c.ago))).New[mass] = 100
		if w := p.window(c.now); w.day[mass] != c.day || w.hour[mass] != c.hour {
			t.Errorf("%s: %d in a day, %d in an hour; want %d, %d", c.name, w.day[mass], w.hour[mass], c.day, c.hour)
		}
	}
	var p profile
	p.flying[single] = 7
	if w := p.window(noon); w.day[single] != 7 || w.hour[single] != 7 {
		t.Errorf("what is being decided does not count: %+v", w)
	}
}

// How many new recipients of a kind pass in a day, by what is usual and what
// others have used up of the floor.
func TestBounds(t *testing.T) {
	o := &Options{Floor: 200, Growth: 1.15}
	for _, c := range []struct {
		name  string
		usual float32
		used  [kinds]int64
		k     kind
		day   float64
	}{
		{"nothing is usual", 0, [kinds]int64{}, single, 270},
		{"its own does not count against it", 0, [kinds]int64{mass: 150}, mass, 270},
		{"others have used half", 0, [kinds]int64{mass: 100}, single, 135},
		{"others have used all", 0, [kinds]int64{mass: 5000}, single, 13.5},
		{"twice what is usual", 1000, [kinds]int64{}, mass, 2000},
		{"mass mail has what the others leave", 1000, [kinds]int64{single: 500}, mass, 1500},
		{"eight times, of a known text", 1000, [kinds]int64{}, known, 8000},
		{"what is usual stays when the floor is used up", 1000, [kinds]int64{mass: 5000}, single, 2000},
	} {
		var p profile
		p.Usual.allow(c.k, c.usual)
		if day, _ := p.bounds(&window{day: c.used}, c.k, o); math.Abs(day-c.day) > 0.01 {
			t.Errorf("%s: %v, want %v", c.name, day, c.day)
		}
	}
}

// The points of one message, reason by reason.
func TestScore(t *testing.T) {
	o := &Options{Floor: 200, Growth: 1.15}
	noon := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	office := func(p *profile) { // sends from 8 to 18 o'clock
		p.Usual.Days = 30
		for i := 8; i < 18; i++ {
			p.Usual.Clock[i] = 100
		}
	}
	for _, c := range []struct {
		name   string
		at     time.Time
		q      Question
		k      kind
		r      recent
		as     func(*profile)
		points map[string][2]int64 // least and most
	}{
		{name: "nothing special", q: Question{New: 1}, k: single},
		{name: "the last that passes", q: Question{New: 270}, k: single, points: map[string][2]int64{NewRecipients: {59, 59}}},
		{name: "one more", q: Question{New: 271}, k: single, points: map[string][2]int64{NewRecipients: {60, 60}}},
		{name: "very many", q: Question{New: 1000}, k: single, points: map[string][2]int64{NewRecipients: {78, 80}}},
		{name: "to known recipients", q: Question{}, k: known, as: func(p *profile) { p.at(hourOf(noon)).New[mass] = 5000 }},
		{name: "a text that is held", q: Question{New: 1}, k: mass, r: recent{Held: 10, Seen: 400}, points: map[string][2]int64{Content: {60, 60}}},
		{name: "a new text beyond the floor", q: Question{New: 1}, k: mass, r: recent{Seen: 50},
			as: func(p *profile) { p.at(hourOf(noon)).New[mass] = 300; p.Usual.allow(mass, 200) }, points: map[string][2]int64{Content: {9, 11}}},
		{name: "many messages", q: Question{}, as: func(p *profile) { p.asked = hourCount{Hour: hourOf(noon), Messages: 800} }, points: map[string][2]int64{Volume: {15, 15}}},
		{name: "as many as ever", q: Question{}, as: func(p *profile) { p.asked, p.Usual.Messages = hourCount{Hour: hourOf(noon), Messages: 800}, 700 }},
		{name: "in office hours", q: Question{}, as: office},
		{name: "at the edge of them", at: noon.Add(6 * time.Hour), q: Question{}, as: office},
		{name: "at night", at: noon.Add(-10 * time.Hour), q: Question{}, as: office, points: map[string][2]int64{Hour: {15, 15}}},
		{name: "at night, little known", at: noon.Add(-10 * time.Hour), q: Question{}, as: func(p *profile) { office(p); p.Usual.Days = 6 }},
		{name: "bounces", q: Question{Recipients: 100, Bounces: 8}, points: map[string][2]int64{Bounces: {16, 16}}},
		{name: "few bounces", q: Question{Recipients: 100, Bounces: 4}},
		{name: "bounces of few", q: Question{Recipients: 40, Bounces: 20}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p profile
			if c.as != nil {
				c.as(&p)
			}
			if c.q.Now = c.at; c.at.IsZero() {
				c.q.Now = noon
			}
			p.flying[c.k] += c.q.New
			a := p.score(&c.q, c.q.Now, ofCredential, c.k, &c.r, o)
			var sum int64
			for _, r := range a.Reasons {
				want, ok := c.points[r.Name]
				if !ok || r.Points < want[0] || r.Points > want[1] || r.Detail == "" {
					t.Errorf("%+v", r)
				}
				sum += r.Points
			}
			if len(a.Reasons) != len(c.points) || a.Score != min(100, sum) {
				t.Errorf("score %d, %+v", a.Score, a.Reasons)
			}
		})
	}
}

// A text is known once it passed on three days; what is held and not released
// never is, nor what is nearly the same.
func TestTextsLearn(t *testing.T) {
	l, other, near := like(0xff), like(0xffff_ffff_0000_0001), like(0xffff_ffff_0000_000e)
	o := &Options{Floor: 200, Growth: 1.15}
	var x texts
	for day := range uint16(knownAfter) {
		hour := uint32(day+1) * 24
		for range learntAfter {
			k, r, _ := x.note(&l, 1, hour)
			r.Passed, r.Reached = r.Passed+1, r.Reached+1
			if k == known {
				t.Fatalf("known on day %d", day)
			}
		}
		_, r, _ := x.note(&other, 1, hour)
		r.Held += blamedAfter
		r.Passed += learntAfter
		x.learn(day+1, o)
	}
	if k, _, _ := x.note(&l, 1, 24*9); k != known {
		t.Errorf("it is %s", k)
	}
	if k, _, _ := x.note(&other, 1, 24*9); k != mass {
		t.Errorf("what is held is %s", k)
	}
	if x.learnt(other.Like) != nil || x.learnt(near.Like) != nil {
		t.Error("what is held was learnt")
	}
	// Very many other texts do not push out the one that is blamed.
	for i := range 1000 {
		text := like(mix(uint64(i)+1) | 1)
		x.note(&text, 1, 24*9)
	}
	if r := x.find(other.Like); r == nil || !r.blamed() {
		t.Error("what is held was forgotten")
	}
}
