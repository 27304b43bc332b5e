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

// restartResult is what a start on a full queue showed.
type restartResult struct {
	Queued      int     `json:"queued"`
	FilledPer   float64 `json:"filled_per_second"`
	DiskMiB     float64 `json:"disk_mib"`
	Ready       float64 `json:"ready_s"`
	First       float64 `json:"first_delivery_s"`
	PeakToFirst float64 `json:"peak_to_first_delivery_mib"`
	Anon        float64 `json:"rss_anon_delivering_mib"` // halfway through
	Drained     float64 `json:"drained_per_second"`
	Peak        float64 `json:"peak_mib"`
	CPU         float64 `json:"cpu_ms_per_message"`
}

// restart measures starts on a queue that was filled through the door while the
// hop was down. All of it must arrive afterwards, once.
func (b *bench) restart(ctx context.Context) error {
	b.say("| queued, 4 KiB each | on disk | ready | first delivery | peak memory until then | until all is delivered; without mapped files | delivered |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for _, n := range b.restarts {
		res, err := b.restartWith(ctx, n)
		if err != nil {
			return err
		}
		b.note(res)
		b.say("| %d | %.0f MiB | %.2f s | %.2f s | %.0f MiB | %.0f MiB; %.0f MiB | %.0f/s, %.2f ms CPU each |\n", n, res.DiskMiB, res.Ready, res.First, res.PeakToFirst, res.Peak, res.Anon, res.Drained, res.CPU)
	}
	b.say("\n")
	return nil
}

func (b *bench) restartWith(ctx context.Context, n int) (res restartResult, err error) {
	ours, err := b.newBehalf("restart")
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, ours.close()) }()
	b.sink.Set(sink.Down)
	run := b.arrivals.Open(n, 1)
	defer b.arrivals.Close(run)
	r, err := ours.run(ctx, setup{resources: plainTenant("plain", b.sink.Port())})
	if err != nil {
		return res, err
	}
	filled, err := b.pile(ctx, r, run, load.Load{Sessions: 100, Each: 5000, Size: 4096})
	b.tell("%d messages queued: %.0f/s, %.0f MiB", n, filled.AcceptedPerSec, filled.PeakMiB)
	if err := errors.Join(err, r.stop()); err != nil {
		return res, err
	}
	res = restartResult{Queued: n, FilledPer: filled.AcceptedPerSec}
	if res.DiskMiB, err = proc.Disk(ours.data); err != nil {
		return res, err
	}
	b.sink.Set(sink.Up)
	return res, b.startOn(ctx, ours, run, &res)
}

// startOn starts the relay on its full queue and watches what it does.
func (b *bench) startOn(ctx context.Context, ours *behalf, run *sink.Run, res *restartResult) error {
	start := time.Now()
	r, err := ours.launch()
	if err != nil {
		return err
	}
	var ready time.Duration
	started := make(chan error, 1)
	go func() {
		err := ours.ready(ctx, r, 10*time.Minute)
		ready = time.Since(start)
		started <- err
	}()
	run.Await(ctx, 1, 5*time.Minute)
	state, stateErr := proc.Read(r.pids[0])
	res.PeakToFirst = state.Peak
	err = errors.Join(stateErr, <-started)
	res.Ready, res.First = ready.Seconds(), run.First().Sub(start).Seconds()
	if err == nil {
		run.Await(ctx, run.Len()/2, 5*time.Minute)
		if state, err := proc.Read(r.pids[0]); err == nil {
			res.Anon = state.Anon
		}
		err = b.drain(ctx, r, run)
	}
	if after, err := proc.Read(r.pids[0]); err == nil {
		res.Peak = after.Peak
	}
	res.CPU = milliseconds(proc.CPU(r.pids)) / float64(run.Len())
	res.Drained = float64(run.Len()) / run.Last().Sub(run.First()).Seconds()
	if err != nil {
		err = fmt.Errorf("after a start on %d messages: %w", run.Len(), err)
	}
	return errors.Join(err, r.stop())
}
