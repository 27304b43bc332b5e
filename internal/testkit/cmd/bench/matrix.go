package main

import (
	"context"
	"errors"
	"fmt"

	"behalf/internal/testkit/cmd/bench/load"
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
	Relay string `json:"relay"`
	result
}

func (b *bench) unsigned(ctx context.Context) error { return b.matrix(ctx, false) }
func (b *bench) signed(ctx context.Context) error   { return b.matrix(ctx, true) }

// matrix lets Behalf and its peer take turns with each workload.
func (b *bench) matrix(ctx context.Context, signed bool) error {
	us, peer, stop, err := b.pair(ctx, signed)
	if err != nil {
		return err
	}
	var all []measured
	for repeat := range b.repeats {
		for _, size := range b.sizes {
			for _, c := range b.connections {
				for _, r := range []*relay{us, peer} {
					m, err := b.one(ctx, r, workload{size, c, signed}, repeat)
					if err != nil {
						return errors.Join(err, stop())
					}
					all = append(all, m)
				}
			}
		}
	}
	b.say("| message, connections | peer | Behalf, relayed/s | peer, relayed/s | ratio | CPU a message, Behalf | peer | ratio | accept p99 | accepted to relayed p50 / p99 | memory, Behalf: all / without mapped files | peer | harness CPU |\n")
	b.say("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, size := range b.sizes {
		for _, c := range b.connections {
			b.line(all, workload{size, c, signed}, peer.name)
		}
	}
	b.say("\n")
	return stop()
}

// pair starts Behalf and its peer.
func (b *bench) pair(ctx context.Context, signed bool) (us, peer *relay, stop func() error, err error) {
	behalf, err := b.newBehalf(fmt.Sprintf("behalf-%v", signed))
	if err != nil {
		return nil, nil, nil, err
	}
	who := plainAccount("plain")
	resources := plainTenant("plain", b.sink.Port())
	if signed {
		who = signedAccount
		if resources, err = behalf.signedTenant(b.sink.Port()); err != nil {
			return nil, nil, nil, errors.Join(err, behalf.close())
		}
	}
	if us, err = behalf.run(ctx, setup{resources: resources}); err != nil {
		return nil, nil, nil, errors.Join(err, behalf.close())
	}
	us.accounts, us.signs = []load.Account{who}, signed
	stopUs := func() error { return errors.Join(us.stop(), behalf.close()) }
	dir, err := b.folder(fmt.Sprintf("postfix-%v", signed))
	if err != nil {
		return nil, nil, nil, errors.Join(err, stopUs())
	}
	if peer, err = startPostfix(ctx, dir, b.sink.Port(), signed); err != nil {
		return nil, nil, nil, errors.Join(err, stopUs())
	}
	return us, peer, func() error { return errors.Join(stopUs(), peer.stop()) }, nil
}

// one runs one workload through one relay.
func (b *bench) one(ctx context.Context, r *relay, w workload, repeat int) (measured, error) {
	n := b.many
	if w.Connections == 1 {
		n = b.few
		if w.Signed && n > 500 { // enough: a signature outweighs a log-in
			n = 500
		}
	}
	res, err := b.through(ctx, r, load.Load{Sessions: w.Connections, Size: w.Size}, n)
	m := measured{w, r.name, res}
	b.note(m)
	b.tell("%d  %-20s %6d octets, %3d connections: %5.0f accepted/s, %5.0f relayed/s, %.2f ms CPU, %3.0f MiB (%.0f anonymous); harness %.2f ms, %.0f %% other load",
		repeat+1, r.name, w.Size, w.Connections, res.AcceptedPerSec, res.RelayedPerSec, res.CPU, res.PeakMiB, res.AnonMiB, res.Harness, res.Other)
	return m, err
}

// line prints the medians of one workload.
func (b *bench) line(all []measured, w workload, peer string) {
	of := func(ours bool, field func(measured) float64) float64 {
		var values []float64
		for _, r := range all {
			if r.workload == w && (r.Relay == "Behalf") == ours {
				values = append(values, field(r))
			}
		}
		return median(values)
	}
	rate := func(r measured) float64 { return r.RelayedPerSec }
	cpu := func(r measured) float64 { return r.CPU }
	memory := func(r measured) float64 { return r.PeakMiB }
	anon := func(r measured) float64 { return r.AnonMiB }
	harness := func(r measured) float64 { return r.Harness }
	b.say("| %d KiB, %d | %s | %.0f | %.0f | **%.1f** | %.2f ms | %.2f ms | **%.1f** | %.0f ms | %.0f / %.0f ms | %.0f / %.0f MiB | %.0f MiB | %.2f / %.2f ms |\n",
		w.Size>>10, w.Connections, peer, of(true, rate), of(false, rate), of(true, rate)/of(false, rate),
		of(true, cpu), of(false, cpu), of(false, cpu)/of(true, cpu),
		of(true, func(r measured) float64 { return r.Accept.P99 }),
		of(true, func(r measured) float64 { return r.Late.P50 }), of(true, func(r measured) float64 { return r.Late.P99 }),
		of(true, memory), of(true, anon), of(false, memory), of(true, harness), of(false, harness))
}
