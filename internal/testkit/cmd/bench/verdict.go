package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// compared is one quantity of a soak at its beginning and at its end.
type compared struct {
	what        string
	of          func(sample) float64
	unit        string
	slack, atom float64 // how much more the end may have: a share, and so many units
}

// comparisons are what may not grow. Noise of a shared machine is what the slack
// is for; something that leaks grows beyond it, and never comes down again.
func comparisons() []compared {
	return []compared{
		{"memory", func(s sample) float64 { return s.RSS }, "MiB", 0.1, 20},
		{"memory without mapped files", func(s sample) float64 { return s.Anon }, "MiB", 0.1, 15},
		{"goroutines", func(s sample) float64 { return s.Goroutines }, "", 0.1, 20},
		{"descriptors", func(s sample) float64 { return float64(s.Descriptors) }, "", 0.1, 20},
		{"data folder", func(s sample) float64 { return s.Disk }, "MiB", 0.15, 50},
		{"CPU a message", func(s sample) float64 { return s.CPU }, "ms", 0.1, 0},
		{"accept p50", func(s sample) float64 { return s.Accept.P50 }, "ms", 0.15, 1},
		{"accept p99", func(s sample) float64 { return s.Accept.P99 }, "ms", 0.3, 10},
		{"accepted to relayed p50", func(s sample) float64 { return s.Late.P50 }, "ms", 0.15, 1},
		{"accepted to relayed p99", func(s sample) float64 { return s.Late.P99 }, "ms", 0.3, 20},
	}
}

// judgedFrom is how many minutes a soak must last for its verdict to count: at
// first caches and tables fill.
const judgedFrom = 10

// report compares the first sixth of the samples with the last, ten minutes of
// an hour, by the medians of those during which the host was calm. The very first
// samples are left out: nothing is old enough to go yet. What was as high in
// between as it is at the end, and came down again, has not grown.
func (s *soaker) report(peak float64) error {
	first, last := ends(s.samples)
	middle := between(s.samples)
	for i := range middle {
		middle[i] = calmer(middle[i], s.taken)
	}
	busy := disturbed(first, s.taken) || disturbed(last, s.taken)
	first, last = calmer(first, s.taken), calmer(last, s.taken)
	minutes := s.samples[len(s.samples)-1].At / 60
	s.say("%.0f minutes at %.0f messages a second, 80 %% of the peak of %.0f; medians of %d samples at the beginning and %d at the end, while the host gave %.0f and %.0f %% of the machine to others. Retention %v.\n\n",
		minutes, s.rate, peak, len(first), len(last), mid(first, sample.takenByHost), mid(last, sample.takenByHost), s.soakKeep())
	s.say("| | beginning | in between | end | |\n| --- | --- | --- | --- | --- |\n")
	var grew []error
	for _, c := range comparisons() {
		a, b := mid(first, c.of), mid(last, c.of)
		was := make([]float64, len(middle))
		for i := range middle {
			was[i] = mid(middle[i], c.of)
		}
		word := "flat"
		switch {
		case c.holds(a, b):
		case c.wandered(a, b, was):
			word = "up and down"
		default:
			word = "**grew**"
			grew = append(grew, fmt.Errorf("%s grew from %.2f to %.2f %s", c.what, a, b, c.unit))
		}
		s.say("| %s | %.2f %s | %s | %.2f %s | %s |\n", c.what, a, c.unit, span(was, c.unit), b, c.unit, word)
	}
	s.say("\n")
	if minutes < judgedFrom {
		s.say("Less than %d minutes are too short to judge.\n", judgedFrom)
		return nil
	}
	if busy {
		grew = append(grew, errors.New("the host gave too much of the machine to others at one end to compare them"))
	}
	return errors.Join(grew...)
}

// holds reports whether going from a to b is no growth.
func (c compared) holds(a, b float64) bool { return b <= a*(1+c.slack)+c.atom }

// wandered reports whether what went from a to b had been as high before, and had come
// down to a again: what leaks never does.
func (c compared) wandered(a, b float64, between []float64) bool {
	up := slices.IndexFunc(between, func(v float64) bool { return v >= b })
	return up >= 0 && slices.ContainsFunc(between[up:], func(v float64) bool { return c.holds(a, v) })
}

// span writes the least and the most.
func span(v []float64, unit string) string {
	if len(v) == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f to %.2f %s", slices.Min(v), slices.Max(v), unit)
}

// ends are the samples to compare: a sixth at the beginning, behind the first
// twentieth, and a sixth at the end.
func ends(all []sample) (first, last []sample) {
	n := max(1, len(all)/6)
	skip := min(len(all)/20, len(all)-n)
	return all[skip : skip+n], all[len(all)-n:]
}

// between are those between them, in stretches as long as these; the last one
// may be longer.
func between(all []sample) (stretches [][]sample) {
	first, last := ends(all)
	n := len(last)
	if len(all) < 3*n {
		return nil
	}
	middle := all[len(all)/20+len(first) : len(all)-n]
	for len(middle) >= 2*n {
		stretches = append(stretches, middle[:n])
		middle = middle[n:]
	}
	return append(stretches, middle)
}

// takenByHost is what the host gave to others, in percent of the machine.
func (s sample) takenByHost() float64 { return s.Taken }

// calmer leaves out the samples during which the host took more than so many
// percent of the machine, but never more than half of them.
func calmer(of []sample, percent float64) []sample {
	byCalm := slices.SortedStableFunc(slices.Values(of), func(a, b sample) int { return cmp.Compare(a.Taken, b.Taken) })
	limit := max(percent, byCalm[(len(byCalm)-1)/2].Taken)
	return slices.DeleteFunc(slices.Clone(of), func(s sample) bool { return s.Taken > limit })
}

// disturbed reports whether the host took more than so many percent of the
// machine in most of the samples.
func disturbed(of []sample, percent float64) bool {
	return mid(of, sample.takenByHost) > percent
}

func mid(of []sample, value func(sample) float64) float64 {
	v := make([]float64, 0, len(of))
	for _, s := range of {
		v = append(v, value(s))
	}
	return median(v)
}
