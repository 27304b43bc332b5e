package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"behalf/internal/testkit/cmd/bench/load"
	"behalf/internal/testkit/cmd/bench/proc"
	"behalf/internal/testkit/cmd/bench/sink"
)

// pileResult is what taking mail while the hop is down, and passing it on
// afterwards, showed.
type pileResult struct {
	Relay    string  `json:"relay"`
	FreshMiB float64 `json:"fresh_mib"`
	Drained  float64 `json:"drained_per_second"`
	result
}

// backlog measures taking mail while the next hop is down, and passing it on
// afterwards.
func (b *bench) backlog(ctx context.Context) error {
	ours, peer, stop, err := b.pair(ctx, false)
	if err != nil {
		return err
	}
	var got []pileResult
	for _, r := range []*relay{ours, peer} {
		one, err := b.pileAndDrain(ctx, r)
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", r.name, err), stop())
		}
		b.note(one)
		got = append(got, one)
	}
	us, them := got[0], got[1]
	b.say("| | Behalf | Postfix | ratio |\n| --- | --- | --- | --- |\n")
	b.say("| %d messages of 4 KiB taken while the hop is down | %.0f/s | %.0f/s | **%.1f** |\n", b.pileUp, us.AcceptedPerSec, them.AcceptedPerSec, us.AcceptedPerSec/them.AcceptedPerSec)
	b.say("| the same passed on when it is up again | %.0f/s | %.0f/s | **%.1f** |\n", us.Drained, them.Drained, us.Drained/them.Drained)
	b.say("| resident memory fresh / while they come | %.0f / %.0f MiB | %.0f / %.0f MiB | |\n\n", us.FreshMiB, us.PeakMiB, them.FreshMiB, them.PeakMiB)
	return stop()
}

func (b *bench) pileAndDrain(ctx context.Context, r *relay) (p pileResult, err error) {
	p = pileResult{Relay: r.name, FreshMiB: proc.Resident(r.pids)}
	b.sink.Set(sink.Down)
	run := b.arrivals.Open(b.pileUp, 1)
	defer b.arrivals.Close(run)
	if p.result, err = b.pile(ctx, r, run, load.Load{Sessions: 20, Size: 4096}); err != nil {
		return p, err
	}
	b.sink.Set(sink.Up)
	start := time.Now()
	if err := r.flush(ctx); err != nil {
		return p, err
	}
	if err := b.drain(ctx, r, run); err != nil {
		return p, err
	}
	p.Drained = float64(b.pileUp) / run.Last().Sub(start).Seconds()
	return p, nil
}

// pile submits a run to a relay whose hop does not take it yet.
func (b *bench) pile(ctx context.Context, r *relay, run *sink.Run, l load.Load) (result, error) {
	w := proc.WatchTrees(r.pids)
	crew := load.NewCrew(r.aim(l))
	sent, err := crew.Send(ctx, run, 0)
	crew.Close()
	res := resultOf(sent, run, w.Stop())
	res.Lost = 0 // nothing can have arrived
	if err == nil && res.Accepted != run.Len() {
		err = fmt.Errorf("%d of %d messages were accepted", res.Accepted, run.Len())
	}
	return res, err
}

// drain waits until all of a run has arrived, once.
func (b *bench) drain(ctx context.Context, r *relay, run *sink.Run) error {
	err := b.await(ctx, r, run, run.Len())
	return errors.Join(whole(run, run.Len()), err)
}
