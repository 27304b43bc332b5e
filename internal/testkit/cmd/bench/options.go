package main

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options are those of the command line.
type options struct {
	program, policies string
	against           string // another build, in the place of Postfix
	results           string
	only              []string
	draw, svg         string
	quick             bool
	repeats           int
	sizes             []int
	connections       []int
	few, many         int // messages with one connection, and with more
	span              time.Duration
	taken             float64 // percent of the machine
	scale
}

// scale is how much the parts do.
type scale struct {
	pileUp     int
	idle       []int
	restarts   []int
	large      large
	curveRuns  int // messages of one run of a curve
	tenants    []int
	queued     []int
	keys       []int
	domains    []int
	phase      time.Duration // of the fairness part
	flood      int
	million    int
	settle     time.Duration
	keep       string // short retention
	soak       time.Duration
	soakSample time.Duration
}

func full() scale {
	return scale{
		pileUp: 20_000, idle: []int{1000, 5000}, restarts: []int{200_000, 1_000_000}, large: large{50, 100, 35 << 20},
		curveRuns: 8000, tenants: []int{1000, 10_000, 100_000}, queued: []int{1000, 10_000, 100_000, 1_000_000},
		keys: []int{1000, 10_000, 100_000, 1_000_000}, domains: []int{1, 100, 10_000, 100_000},
		phase: 30 * time.Second, flood: 20_000, million: 1_000_000, settle: time.Minute, keep: "1m",
		soak: time.Hour, soakSample: 10 * time.Second,
	}
}

// quick is enough to see that everything works.
func quick() scale {
	return scale{
		pileUp: 1000, idle: []int{50}, restarts: []int{2000}, large: large{2, 10, 35 << 20},
		curveRuns: 300, tenants: []int{10, 100}, queued: []int{100, 1000}, keys: []int{1000, 10_000}, domains: []int{1, 100},
		phase: 4 * time.Second, flood: 1000, million: 5000, settle: 5 * time.Second, keep: "1s",
		soak: 40 * time.Second, soakSample: 5 * time.Second,
	}
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := f.String("only", "", "parts to run, by comma: "+strings.Join(names(func(part) bool { return true }), ", ")+
		"; default "+strings.Join(names(func(p part) bool { return p.usual }), ","))
	f.BoolVar(&o.quick, "quick", false, "do little, to see that everything works")
	sizes := f.String("sizes", "4096,24576,65536", "matrix, signed, profile: octets of a message")
	connections := f.String("connections", "1,20,100", "matrix, signed, profile: parallel connections")
	f.IntVar(&o.repeats, "repeats", 0, "runs of each workload and of each point of a curve; default 3")
	f.IntVar(&o.few, "few", 0, "matrix, signed: messages of a run with one connection; default 1500, signed never more than 500")
	f.IntVar(&o.many, "many", 0, "matrix, signed: messages of a run with more connections; default 6000")
	f.Float64Var(&o.taken, "taken", 5, "matrix, signed, curves: percent of the machine that the host may give to other guests during a run; beyond, it is repeated, at most twice, or for curves thrice, and the calmest count; soak: at the end, or it goes on, for half as long again at most")
	f.DurationVar(&o.span, "for", 0, "soak: how long, default 1h; fair: each phase, default 30s")
	f.StringVar(&o.program, "behalf", "bin/behalf", "the relay's program")
	f.StringVar(&o.against, "against", "", "matrix, signed: another build of the relay's program, in the place of Postfix")
	f.StringVar(&o.policies, "policies", "policies", "folder of the default policies, for the parts that add rules")
	f.StringVar(&o.results, "out", "bench-results", "folder for what was measured: PART.jsonl and PART.md")
	f.StringVar(&o.svg, "svg", "", "curves: file for the picture, besides curves.svg in the folder of -out")
	f.StringVar(&o.draw, "draw", "", "only draw the picture of -svg anew, from this curves.jsonl")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.sizes, err = numbers(*sizes); err != nil {
		return o, err
	}
	if o.connections, err = numbers(*connections); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("%q is not understood", f.Args())
	}
	if o.draw != "" && o.svg == "" {
		return o, fmt.Errorf("-draw wants a file for the picture: -svg")
	}
	o.fill()
	return o, o.choose(*only)
}

// fill sets what was left open.
func (o *options) fill() {
	o.scale = full()
	repeats, few, many := 3, 1500, 6000
	if o.quick {
		o.scale = quick()
		repeats, few, many = 1, 50, 300
	}
	for _, v := range []struct {
		p    *int
		less int
	}{{&o.repeats, repeats}, {&o.few, few}, {&o.many, many}} {
		if *v.p == 0 {
			*v.p = v.less
		}
	}
	if o.span > 0 {
		o.soak, o.phase = o.span, o.span
	}
}

// choose sets the parts to run.
func (o *options) choose(list string) error {
	if list == "" {
		o.only = names(func(p part) bool { return p.usual })
		return nil
	}
	known := names(func(part) bool { return true })
	for name := range strings.SplitSeq(list, ",") {
		if !slices.Contains(known, name) {
			return fmt.Errorf("there is no part %q; there are %s", name, strings.Join(known, ", "))
		}
		o.only = append(o.only, name)
	}
	return nil
}

func (o *options) runs(p part) bool { return slices.Contains(o.only, p.name) }

func names(which func(part) bool) (n []string) {
	for _, p := range parts() {
		if which(p) {
			n = append(n, p.name)
		}
	}
	return n
}

func numbers(list string) (n []int, err error) {
	for s := range strings.SplitSeq(list, ",") {
		v, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || v < 1 {
			return nil, fmt.Errorf("%q is no list of numbers", list)
		}
		n = append(n, v)
	}
	return n, nil
}
