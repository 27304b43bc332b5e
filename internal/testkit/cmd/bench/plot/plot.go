// Package plot draws curves as SVG: small panels side by side, a logarithmic x
// axis, a y axis from zero. A curve that is flat looks flat, as nothing is cut
// off below.
package plot

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Point is one measurement; Low and High are the least and the most of its
// repeats.
type Point struct{ X, Y, Low, High float64 }

// Panel is one curve with its axes.
type Panel struct {
	Title, X, Y string
	Points      []Point
}

// The size of a panel, and of what stands around its axes, in pixels.
const (
	width, height            = 260.0, 200.0
	left, right, top, bottom = 46.0, 14.0, 30.0, 40.0
)

// SVG draws rows of panels. All panels of a row have the same y axis.
func SVG(title string, rows [][]Panel) string {
	columns := 0
	for _, row := range rows {
		columns = max(columns, len(row))
	}
	var b strings.Builder
	w, h := float64(columns)*width, float64(len(rows))*height
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="10" role="img">`+"\n", w, h, w, h)
	fmt.Fprintf(&b, "<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", html.EscapeString(title))
	for y, row := range rows {
		most := 0.0
		for _, p := range row {
			for _, q := range p.Points {
				most = max(most, q.Y, q.High)
			}
		}
		for x, p := range row {
			fmt.Fprintf(&b, "<g transform=\"translate(%.0f %.0f)\">\n", float64(x)*width, float64(y)*height)
			p.draw(&b, ceiling(most))
			b.WriteString("</g>\n")
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// draw writes one panel whose y axis ends at most.
func (p Panel) draw(b *strings.Builder, most float64) {
	points := slices.Clone(p.Points)
	slices.SortFunc(points, func(a, c Point) int { return int(math.Copysign(1, a.X-c.X)) })
	first, last := 0.0, 1.0
	if len(points) > 0 {
		first, last = math.Floor(math.Log10(points[0].X)), math.Ceil(math.Log10(points[len(points)-1].X))
		last = max(last, first+1)
	}
	px := func(x float64) float64 {
		return left + (math.Log10(x)-first)/(last-first)*(width-left-right)
	}
	py := func(y float64) float64 { return height - bottom - y/most*(height-top-bottom) }
	text := func(x, y float64, anchor, s string) {
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(s))
	}
	line := func(x1, y1, x2, y2 float64, colour string) {
		fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, colour)
	}
	fmt.Fprintf(b, `<text x="%.1f" y="14" font-weight="bold">%s</text>`+"\n", left, html.EscapeString(p.Title))
	text(left, 26, "start", p.Y)
	for i := range 5 {
		y := most * float64(i) / 4
		line(left, py(y), width-right, py(y), "#ddd")
		text(left-4, py(y)+3, "end", strconv.FormatFloat(y, 'g', 3, 64))
	}
	for e := first; e <= last; e++ {
		x := math.Pow(10, e)
		line(px(x), height-bottom, px(x), height-bottom+4, "#888")
		text(px(x), height-bottom+14, "middle", short(x))
	}
	text((left+width-right)/2, height-10, "middle", p.X)
	var path strings.Builder
	for _, q := range points {
		fmt.Fprintf(&path, "%.1f,%.1f ", px(q.X), py(q.Y))
		if q.High > q.Low {
			line(px(q.X), py(q.Low), px(q.X), py(q.High), "#7aa6d8")
		}
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="#1f5fa8"/>`+"\n", px(q.X), py(q.Y))
	}
	fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="#1f5fa8" stroke-width="1.5"/>`+"\n", strings.TrimSpace(path.String()))
}

// ceiling is the next number above with one or two simple digits.
func ceiling(y float64) float64 {
	if y <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(y)))
	for _, f := range []float64{1, 1.2, 1.6, 2, 3, 4, 6, 8, 10} {
		if unit*f >= y {
			return unit * f
		}
	}
	return unit * 10
}

// short writes a power of ten as 1, 10, 1k, 1M.
func short(x float64) string {
	switch {
	case x >= 1e6:
		return strconv.FormatFloat(x/1e6, 'g', 4, 64) + "M"
	case x >= 1e3:
		return strconv.FormatFloat(x/1e3, 'g', 4, 64) + "k"
	}
	return strconv.FormatFloat(x, 'g', 4, 64)
}
