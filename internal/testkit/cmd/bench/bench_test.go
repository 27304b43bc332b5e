package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestOptions(t *testing.T) {
	o, err := parse(nil)
	if err != nil || !slices.Equal(o.only, []string{"matrix", "signed", "backlog", "idle"}) || o.repeats != 3 || o.pileUp != 20_000 {
		t.Errorf("by default %+v: %v", o, err)
	}
	o, err = parse([]string{"-quick", "-only", "curves,soak", "-for", "2m", "-sizes", "4096, 100", "-repeats", "2"})
	if err != nil || !slices.Equal(o.only, []string{"curves", "soak"}) || o.soak != 2*time.Minute || o.repeats != 2 || !slices.Equal(o.sizes, []int{4096, 100}) || o.pileUp >= 20_000 {
		t.Errorf("quick: %+v: %v", o, err)
	}
	for _, bad := range [][]string{{"-only", "nothing"}, {"-sizes", "4k"}, {"-connections", "0"}, {"matrix"}, {"-draw", "a.jsonl"}} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}

func TestQuantiles(t *testing.T) {
	var d []time.Duration
	for i := range 100 {
		d = append(d, time.Duration(100-i)*time.Millisecond, 0)
	}
	if got, want := quantilesOf(d), (quantiles{51, 95, 99, 100}); got != want {
		t.Errorf("got %v, not %v", got, want)
	}
	if got := quantilesOf(nil); got != (quantiles{}) {
		t.Errorf("of nothing %v", got)
	}
	if got := quantilesOf([]time.Duration{1500 * time.Microsecond}); got != (quantiles{1.5, 1.5, 1.5, 1.5}) {
		t.Errorf("of one %v", got)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		of   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := median(c.of); got != c.want {
			t.Errorf("of %v it is %v, not %v", c.of, got, c.want)
		}
	}
}

// Which runs of a curve count depends on the host alone, and not on how fast
// they were.
func TestCalmest(t *testing.T) {
	run := func(taken, cpu float64) curvePoint { return curvePoint{result: result{Taken: taken, CPU: cpu}} }
	got := calmest([]curvePoint{run(9, 1), run(0, 7), run(3, 2), run(2, 8)}, 3)
	if want := []curvePoint{run(0, 7), run(2, 8), run(3, 2)}; !slices.Equal(got, want) {
		t.Errorf("counted are %v, not %v", got, want)
	}
	if got := calmest([]curvePoint{run(1, 1)}, 3); len(got) != 1 {
		t.Errorf("of one run %d count", len(got))
	}
}

func TestMetricIn(t *testing.T) {
	text := []byte("# HELP go_goroutines Number\ngo_goroutines_total 7\ngo_goroutines 53\nx 1.5e+06\n")
	for name, want := range map[string]float64{"go_goroutines": 53, "x": 1.5e6} {
		if got, err := metricIn(text, name); err != nil || got != want {
			t.Errorf("%s is %v: %v", name, got, err)
		}
	}
	if _, err := metricIn(text, "go"); err == nil {
		t.Error("a metric that is not there is found")
	}
}

// What a soak compares are stretches of equal length at both ends, and growth is
// what exceeds the noise.
func TestSoakVerdict(t *testing.T) {
	for n, want := range map[int][4]int{360: {18, 78, 300, 360}, 12: {0, 2, 10, 12}, 1: {0, 1, 0, 1}} {
		all := make([]sample, n)
		for i := range all {
			all[i].At = float64(i)
		}
		first, last := ends(all)
		if got := [4]int{int(first[0].At), int(first[0].At) + len(first), int(last[0].At), int(last[0].At) + len(last)}; got != want {
			t.Errorf("of %d samples %v are compared, not %v", n, got, want)
		}
	}
	all := make([]sample, 360)
	var lengths []int
	for _, of := range between(all) {
		lengths = append(lengths, len(of))
	}
	if !slices.Equal(lengths, []int{60, 60, 102}) || between(all[:1]) != nil {
		t.Errorf("in between are stretches of %v samples", lengths)
	}
	at := func(of []sample) (at []float64) {
		for _, s := range of {
			at = append(at, s.At)
		}
		return at
	}
	of := []sample{{At: 1, Taken: 9}, {At: 2}, {At: 3, Taken: 30}, {At: 4, Taken: 6}, {At: 5, Taken: 5}}
	for percent, want := range map[float64][]float64{5: {2, 4, 5}, 0: {2, 4, 5}, 10: {1, 2, 4, 5}, 50: {1, 2, 3, 4, 5}} {
		if got := at(calmer(of, percent)); !slices.Equal(got, want) {
			t.Errorf("calm with at most %v %% are %v, not %v", percent, got, want)
		}
	}
	if !disturbed(of, 5) || disturbed(of, 6) {
		t.Error("half of the samples must be calm")
	}
	for _, c := range comparisons() {
		if !c.holds(100, 100) || !c.holds(100, 20) || c.holds(100, 200) {
			t.Errorf("%s is judged wrongly", c.what)
		}
		for want, was := range map[bool][][]float64{
			true:  {{100, 210, 100}, {210, 205, 90}},
			false: {{120, 150, 190}, {100, 210, 210}, {}},
		} {
			for _, was := range was {
				if c.wandered(100, 200, was) != want {
					t.Errorf("%s: from 100 to 200 by way of %v is judged wrongly", c.what, was)
				}
			}
		}
	}
}

// The picture is drawn from the lines that a run left, and from nothing else.
func TestRedraw(t *testing.T) {
	dir := t.TempDir()
	r, err := newRecord(dir, "curves")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []int{1000, 100_000} {
		for _, cpu := range []float64{0.5, 0.6, 0.7} {
			r.note(curvePoint{Curve: "tenants", X: x, Times: cpu, AcceptTimes: 1, result: result{CPU: cpu, Accept: quantiles{P50: 9}}})
		}
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	from, to := filepath.Join(dir, "curves.jsonl"), filepath.Join(dir, "a.svg")
	if err := redraw(from, to); err != nil {
		t.Fatal(err)
	}
	picture, err := os.ReadFile(to)
	if err != nil || strings.Count(string(picture), "<circle") != 4 || !strings.Contains(string(picture), "CPU a message, times") {
		t.Errorf("%v:\n%s", err, picture)
	}
	if err := os.WriteFile(from, []byte("{\"curve\":\"tenants\"}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := redraw(from, to); err == nil {
		t.Error("a point without its place is drawn")
	}
}

func TestZone(t *testing.T) {
	z, err := newZone()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := z.close(); err != nil {
			t.Error(err)
		}
	}()
	for _, c := range []struct {
		name    string
		kind    uint16
		code    int
		answers int
	}{
		{destination(99_999) + ".", dns.TypeMX, dns.RcodeSuccess, 1}, {destination(1) + ".", dns.TypeA, dns.RcodeSuccess, 0},
		{"mx.sink.test.", dns.TypeA, dns.RcodeSuccess, 1}, {"mx.sink.test.", dns.TypeAAAA, dns.RcodeSuccess, 0}, {"e000001.test.", dns.TypeMX, dns.RcodeNameError, 0},
	} {
		m, err := dns.ExchangeContext(context.Background(), new(dns.Msg).SetQuestion(c.name, c.kind), z.addr)
		if err != nil || m.Rcode != c.code || len(m.Answer) != c.answers {
			t.Errorf("%s %d: %v: %v", c.name, c.kind, m, err)
		}
	}
}

// The resources of a file and of the API are the same.
func TestDocuments(t *testing.T) {
	for _, d := range plainDocuments("a", 25) {
		if !json.Valid([]byte(d[1])) {
			t.Errorf("%s is no JSON: %s", d[0], d[1])
		}
	}
	if text := plainTenant("a", 25); strings.Contains(text, "%!") || !strings.Contains(text, "senders: [billing@a.test, \"*@a.test\"]") || !strings.Contains(text, "port: 25,") {
		t.Error(text)
	}
	if got, want := quoted(strings.Repeat("x", 300)), `"`+strings.Repeat("x", 250)+`" "`+strings.Repeat("x", 50)+`"`; got != want {
		t.Error(got)
	}
}
