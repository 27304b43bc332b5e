package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// workload is one line of the table.
type workload struct {
	Size        int  `json:"size"`
	Connections int  `json:"connections"`
	Signed      bool `json:"signed"`
}

// measured is one run of a workload.
type measured struct {
	workload
	Relay    string `json:"relay"`
	Messages int    `json:"messages"`
	result
}

// matrix runs all workloads and keeps what came of them.
type matrix struct {
	options
	sink *sink
	all  []measured
}

// compare lets Behalf and its peer take turns.
func (m *matrix) compare(ctx context.Context, dir string, b *behalf, signed bool) (err error) {
	ours, err := b.start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.stop()) }()
	peer, err := startPostfix(ctx, filepath.Join(dir, fmt.Sprintf("postfix-%v", signed)), m.sink.port(), signed)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peer.stop()) }()
	us := ours
	if signed {
		us = ours.signing()
	}
	for repeat := range m.repeats {
		for _, size := range m.sizes {
			for _, c := range m.connections {
				for _, r := range []*relay{us, peer} {
					if err := m.one(ctx, r, workload{size, c, signed}, repeat); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// one runs one workload through one relay.
func (m *matrix) one(ctx context.Context, r *relay, w workload, repeat int) error {
	l := r.load
	l.n, l.connections, l.size, l.wait = m.many, w.Connections, w.Size, true
	if w.Connections == 1 {
		l.n = m.few
	}
	res := l.through(ctx, m.sink, r.pids)
	m.all = append(m.all, measured{w, r.name, l.n, res})
	fmt.Fprintf(os.Stderr, "%d  %-20s %6d octets, %3d connections: %5.0f accepted/s, %5.0f relayed/s, %.2f ms CPU, %3.0f MiB, %.0f %% other load\n",
		repeat+1, r.name, w.Size, w.Connections, res.AcceptedPerSec, res.RelayedPerSec, res.CPU, res.PeakMiB, res.Other)
	switch {
	case res.Err != "":
		return fmt.Errorf("%s: %s", r.name, res.Err)
	case res.Lost > 0 || res.Twice > 0:
		return fmt.Errorf("%s: %d messages were lost, %d came twice", r.name, res.Lost, res.Twice)
	case r.signs && res.Signed != l.n:
		return fmt.Errorf("%s: %d of %d messages were signed", r.name, res.Signed, l.n)
	}
	return ctx.Err()
}

// report prints the medians as a table in Markdown, and writes all runs.
func (m *matrix) report() error {
	if m.out != "" {
		f, err := os.Create(m.out)
		if err != nil {
			return err
		}
		for _, r := range m.all {
			if err := json.NewEncoder(f).Encode(r); err != nil {
				return errors.Join(err, f.Close())
			}
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	fmt.Println("| message, connections | peer | Behalf, relayed/s | peer, relayed/s | ratio | CPU a message, Behalf | peer | ratio | accept p99 | accepted to relayed p50 / p99 | memory, Behalf | peer |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, signed := range []bool{false, true} {
		for _, size := range m.sizes {
			for _, c := range m.connections {
				m.line(workload{size, c, signed})
			}
		}
	}
	return nil
}

func (m *matrix) line(w workload) {
	of := func(ours bool, field func(measured) float64) float64 {
		var values []float64
		for _, r := range m.all {
			if r.workload == w && (r.Relay == "Behalf") == ours {
				values = append(values, field(r))
			}
		}
		return median(values)
	}
	peer := "Postfix"
	if w.Signed {
		peer += " and OpenDKIM"
	}
	rate := func(r measured) float64 { return r.RelayedPerSec }
	cpu := func(r measured) float64 { return r.CPU }
	memory := func(r measured) float64 { return r.PeakMiB }
	if of(true, rate) == 0 {
		return
	}
	fmt.Printf("| %d KiB, %d | %s | %.0f | %.0f | **%.1f** | %.2f ms | %.2f ms | **%.1f** | %.0f ms | %.0f / %.0f ms | %.0f MiB | %.0f MiB |\n",
		w.Size>>10, w.Connections, peer, of(true, rate), of(false, rate), of(true, rate)/of(false, rate),
		of(true, cpu), of(false, cpu), of(false, cpu)/of(true, cpu),
		of(true, func(r measured) float64 { return r.AcceptP99 }),
		of(true, func(r measured) float64 { return r.RelayP50 }), of(true, func(r measured) float64 { return r.RelayP99 }),
		of(true, memory), of(false, memory))
}

func median[T cmp.Ordered](v []T) (zero T) {
	if len(v) == 0 {
		return zero
	}
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}
