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

// sample is one stretch of a soak.
type sample struct {
	At         float64   `json:"at_s"` // its end
	Rate       float64   `json:"rate_per_second"`
	Accepted   int       `json:"accepted"`
	CPU        float64   `json:"cpu_ms_per_message"`
	Accept     quantiles `json:"accept"`
	Late       quantiles `json:"accepted_to_relayed"`
	Disk       float64   `json:"disk_mib"`
	Goroutines float64   `json:"goroutines"`
	Taken      float64   `json:"taken_by_host_percent"`
	proc.State
}

// soaker runs a soak.
type soaker struct {
	*bench
	relay   *relay
	behalf  *behalf
	crew    *load.Crew
	rate    float64
	start   time.Time
	samples []sample
	open    []stretch // what of them may still arrive
}

// stretch is the messages of one sample.
type stretch struct {
	run  *sink.Run
	sent load.Sent
}

// soak sends at 80 % of the peak that is found first, each message when it is
// due, and compares the end with the beginning. When the host gives much of the
// machine to others at the end, it goes on until it does not, for half as long
// again at most. Retention is short, so that what is done with goes, as it would
// after days.
func (b *bench) soak(ctx context.Context) (err error) {
	ours, r, stop, err := b.start(ctx, "soak", setup{resources: plainTenant("plain", b.sink.Port()), config: retention(b.soakKeep().String())})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	peak, err := b.peak(ctx, r)
	if err != nil {
		return err
	}
	s := &soaker{bench: b, relay: r, behalf: ours, rate: 0.8 * peak, start: time.Now(),
		crew: load.NewCrew(r.aim(load.Load{Sessions: 50, Each: 5000, Size: 4096}))}
	defer s.crew.Close()
	b.tell("peak %.0f/s: soaking with %.0f/s for %v", peak, s.rate, b.options.scale.soak)
	for lasts := b.options.scale.soak; time.Since(s.start) < lasts || time.Since(s.start) < lasts*3/2 && s.disturbed(); {
		if err := s.stretch(ctx); err != nil {
			return err
		}
	}
	if err := s.finish(ctx); err != nil {
		return err
	}
	return s.report(peak)
}

// disturbed reports whether the end would be compared on a busy host.
func (s *soaker) disturbed() bool {
	_, last := ends(s.samples)
	return disturbed(last, s.taken)
}

// soakKeep is the retention of a soak: short beside its length, so that as much
// goes as comes from soon after the start.
func (b *bench) soakKeep() time.Duration {
	return min(time.Minute, b.options.scale.soak/12).Truncate(time.Second)
}

// peak is the rate at which mail goes through when it comes as fast as it can,
// and what was kept long enough goes as well: the third time that retention
// lasts.
func (b *bench) peak(ctx context.Context, r *relay) (rate float64, err error) {
	n := b.many // enough to guess how many fill the time
	for range 4 {
		res, err := b.through(ctx, r, load.Load{Sessions: 50, Each: 5000, Size: 4096}, n)
		if err != nil {
			return 0, err
		}
		rate = res.RelayedPerSec
		n = max(n, int(rate*b.soakKeep().Seconds()))
	}
	return rate, nil
}

// stretch sends for the time of a sample, and takes it.
func (s *soaker) stretch(ctx context.Context) error {
	w := proc.WatchTrees(s.relay.pids)
	run := s.arrivals.Open(max(1, int(s.rate*s.soakSample.Seconds())), 1)
	sent, err := s.crew.Send(ctx, run, s.rate)
	if err == nil {
		run.Await(ctx, run.Len(), 5*time.Second) // the last ones; what is late is looked at again later
	}
	used := w.Stop()
	if err != nil {
		return err
	}
	s.open = append(s.open, stretch{run, sent})
	if err := s.take(ctx, run, sent, used); err != nil {
		return err
	}
	if len(s.open) > 6 {
		return s.settled()
	}
	return nil
}

// take takes a sample.
func (s *soaker) take(ctx context.Context, run *sink.Run, sent load.Sent, used proc.Used) (err error) {
	late, _ := lateness(sent, run)
	one := sample{At: time.Since(s.start).Seconds(), Rate: float64(sent.Accepted) / sent.Lasted.Seconds(), Accepted: sent.Accepted,
		CPU: milliseconds(used.CPU) / float64(max(sent.Accepted, 1)), Accept: quantilesOf(sent.Took), Late: quantilesOf(late), Taken: used.Taken}
	if one.State, err = proc.Read(s.relay.pids[0]); err != nil {
		return err
	}
	if one.Disk, err = proc.Disk(s.behalf.data); err != nil {
		return err
	}
	if one.Goroutines, err = s.behalf.metric(ctx, "go_goroutines"); err != nil {
		return err
	}
	s.samples = append(s.samples, one)
	s.note(one)
	s.tell("%5.0f s: %.0f/s, %.2f ms CPU, accept %.0f / %.0f ms, relayed %.0f / %.0f ms, %.0f MiB (%.0f anonymous), %.0f goroutines, %d descriptors, disk %.0f MiB; %.0f %% taken by the host", one.At, one.Rate, one.CPU,
		one.Accept.P50, one.Accept.P99, one.Late.P50, one.Late.P99, one.RSS, one.Anon, one.Goroutines, one.Descriptors, one.Disk, one.Taken)
	return nil
}

// settled looks for the last time at the oldest stretch.
func (s *soaker) settled() error {
	run := s.open[0].run
	s.open = s.open[1:]
	s.arrivals.Close(run)
	if err := whole(run, run.Len()); err != nil {
		return fmt.Errorf("after %v: %w", time.Since(s.start).Round(time.Second), err)
	}
	return nil
}

// finish waits for what is under way.
func (s *soaker) finish(ctx context.Context) error {
	for _, o := range s.open {
		o.run.Await(ctx, o.run.Len(), 3*calm)
	}
	for len(s.open) > 0 {
		if err := s.settled(); err != nil {
			return err
		}
	}
	if n := s.arrivals.Stray(); n > 0 {
		return fmt.Errorf("%d messages came that nobody expected any more", n)
	}
	return ctx.Err()
}
