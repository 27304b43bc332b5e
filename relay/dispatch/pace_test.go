package dispatch

import (
	"testing"
	"time"
)

// rate counts what passes in d.
func passes(p *Pace, now time.Time, d time.Duration) (n int) {
	for end := now.Add(d); now.Before(end); {
		at := p.Next(now)
		if at.After(now) {
			now = at
			continue
		}
		p.Take(now, 1)
		n++
		if p.Rate() == 0 {
			now = now.Add(time.Millisecond)
		}
	}
	return n
}

func TestPace(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name     string
		bend     func(*Pace)
		min, max int // recipients in ten seconds
	}{
		{"open", func(*Pace) {}, 10_000, 10_000},
		{"paused", func(p *Pace) { p.Pause(now.Add(10 * time.Second)) }, 0, 0},
		{"paused and opened", func(p *Pace) { p.Pause(now.Add(time.Hour)); p.Open() }, 10_000, 10_000},
		{"a shorter pause changes nothing", func(p *Pace) { p.Pause(now.Add(10 * time.Second)); p.Pause(now) }, 0, 0},
		{"limited", func(p *Pace) { p.rate, p.filled = 5, now }, 49, 55},
		{"a job of many is paid for", func(p *Pace) { p.rate, p.filled = 5, now; p.Take(now, 25) }, 24, 26},
		{"hard complaint at an unknown rate", func(p *Pace) { p.Slow(now, true) }, 4, 6},
		{"complaints of one cohort count once", func(p *Pace) {
			p.rate, p.filled = 8, now
			for range 20 {
				p.Slow(now, true)
			}
		}, 39, 44},
		{"soft complaint", func(p *Pace) { p.rate, p.filled = 10, now; p.Slow(now, false) }, 89, 99},
		{"soft complaint at an unknown rate", func(p *Pace) { p.Take(now, 1); p.Slow(now, false) }, 10_000, 10_000},
		{"soft complaints have a floor", func(p *Pace) {
			p.rate, p.filled = 10, now
			for i := range 100 {
				p.Slow(now.Add(-time.Hour).Add(time.Duration(i)*10*time.Second), false)
			}
		}, 49, 55},
		{"hard ones a lower one", func(p *Pace) {
			p.rate, p.filled = 10, now
			for i := range 100 {
				p.Slow(now.Add(-time.Hour).Add(time.Duration(i)*10*time.Second), true)
			}
		}, 0, 2},
		{"grows again", func(p *Pace) {
			p.rate, p.filled, p.grown = 2, now, now.Add(-time.Minute)
			p.Grow(now)
		}, 39, 44},
		{"until it is open", func(p *Pace) {
			p.rate, p.filled, p.grown = 1, now, now.Add(-11*time.Minute)
			for i := range 11 {
				p.Grow(now.Add(time.Duration(i-10) * time.Minute))
			}
		}, 10_000, 10_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &Pace{}
			c.bend(p)
			if n := passes(p, now, 10*time.Second); n < c.min || n > c.max {
				t.Errorf("%d passed in ten seconds, want %d to %d (rate %g)", n, c.min, c.max, p.rate)
			}
		})
	}
}

// The rate that was seen is what is halved.
func TestPaceHalvesWhatItSaw(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := &Pace{}
	for i := range 200 {
		p.Take(now.Add(time.Duration(i)*50*time.Millisecond), 1)
	}
	p.Slow(now.Add(10*time.Second), true)
	if r := p.Rate(); r < 9 || r > 11 {
		t.Errorf("20 a second halved is %g", r)
	}
}
