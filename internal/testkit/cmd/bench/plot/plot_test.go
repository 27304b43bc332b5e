package plot

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

// What is drawn is well-formed, names what it shows, and puts equal values of a
// row at equal heights.
func TestSVG(t *testing.T) {
	got := SVG("a <b>", [][]Panel{
		{{Title: "x & y", X: "queued", Y: "ms", Points: []Point{{1e3, 1, 0.9, 1.2}, {1e6, 1, 1, 1}}}, {Title: "two", Points: []Point{{1, 1, 1, 1}}}},
		{{Title: "none"}},
	})
	d := xml.NewDecoder(strings.NewReader(got))
	heights := map[string]int{}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not XML: %v\n%s", err, got)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
			for _, a := range e.Attr {
				if a.Name.Local == "cy" {
					heights[a.Value]++
				}
			}
		}
	}
	if len(heights) != 1 {
		t.Errorf("equal values are drawn at heights %v", heights)
	}
	for _, want := range []string{"<title>a &lt;b&gt;</title>", "x &amp; y", ">1k<", ">1M<", ">1.2<", `width="520" height="400"`} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %s in\n%s", want, got)
		}
	}
	if strings.Contains(got, "NaN") || strings.Contains(got, "Inf") {
		t.Errorf("a number is missing in\n%s", got)
	}
}

func TestCeiling(t *testing.T) {
	for y, want := range map[float64]float64{0: 1, 0.9: 1, 1: 1, 1.1: 1.2, 17: 20, 950: 1000, 0.031: 0.04} {
		if got := ceiling(y); got < want*0.999 || got > want*1.001 {
			t.Errorf("above %v comes %v, not %v", y, got, want)
		}
	}
}
