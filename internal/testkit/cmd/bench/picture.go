package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"behalf/internal/testkit/cmd/bench/plot"
)

// summed is one point of a curve over its runs: medians, with the least and the
// most.
type summed struct{ cpu, times, accept, acceptTimes, relay plot.Point }

func summary(runs []curvePoint) (s summed) {
	for _, v := range []struct {
		to   *plot.Point
		from func(curvePoint) float64
	}{
		{&s.cpu, func(p curvePoint) float64 { return p.CPU }},
		{&s.times, func(p curvePoint) float64 { return p.Times }},
		{&s.acceptTimes, func(p curvePoint) float64 { return p.AcceptTimes }},
		{&s.accept, func(p curvePoint) float64 { return p.Accept.P50 }},
		{&s.relay, func(p curvePoint) float64 { return p.Late.P50 }},
	} {
		var values []float64
		for _, r := range runs {
			values = append(values, v.from(r))
		}
		if len(values) > 0 {
			*v.to = plot.Point{X: float64(runs[0].X), Y: median(values), Low: slices.Min(values), High: slices.Max(values)}
		}
	}
	return s
}

// draw makes the picture of all curves: above what a message costs, below how
// long its acceptance takes, each as a multiple of what the first point had right
// before.
func draw(all []curvePoint) string {
	rows := make([][]plot.Panel, 2)
	for _, c := range (&bench{}).list() {
		cpu := plot.Panel{Title: c.name, X: c.what, Y: "CPU a message, times"}
		accept := plot.Panel{Title: c.name, X: c.what, Y: "accept p50, times"}
		byX := map[int][]curvePoint{}
		for _, p := range all {
			if p.Curve == c.name {
				byX[p.X] = append(byX[p.X], p)
			}
		}
		for _, runs := range byX {
			s := summary(runs)
			cpu.Points, accept.Points = append(cpu.Points, s.times), append(accept.Points, s.acceptTimes)
		}
		rows[0], rows[1] = append(rows[0], cpu), append(rows[1], accept)
	}
	return plot.SVG("Cost of a message by what else there is", rows)
}

// redraw makes the picture from what a run of the curves left.
func redraw(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	var all []curvePoint
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		var p curvePoint
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil || p.X < 1 || p.Times <= 0 {
			return fmt.Errorf("%s:%d is no point of a curve: %v", from, n, err)
		}
		all = append(all, p)
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return os.WriteFile(to, []byte(draw(all)), 0o644)
}
