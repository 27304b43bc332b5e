package main

import (
	"slices"
	"time"
)

// quantiles are in milliseconds.
type quantiles struct {
	P50 float64 `json:"p50_ms"`
	P95 float64 `json:"p95_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// quantilesOf leaves out what is 0, which did not happen.
func quantilesOf(d []time.Duration) (q quantiles) {
	d = slices.DeleteFunc(slices.Clone(d), func(d time.Duration) bool { return d == 0 })
	if len(d) == 0 {
		return q
	}
	slices.Sort(d)
	at := func(q float64) float64 { return milliseconds(d[int(float64(len(d)-1)*q+0.5)]) }
	return quantiles{at(0.5), at(0.95), at(0.99), at(1)}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Clone(v)
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
