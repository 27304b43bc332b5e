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

// result is what a load showed.
type result struct {
	Messages       int       `json:"messages"`
	Accepted       int       `json:"accepted"`
	AcceptedPerSec float64   `json:"accepted_per_second"`
	RelayedPerSec  float64   `json:"relayed_per_second"`
	Accept         quantiles `json:"accept"`
	Late           quantiles `json:"accepted_to_relayed"` // from the start of the submission
	CPU            float64   `json:"cpu_ms_per_message"`
	Harness        float64   `json:"harness_cpu_ms_per_message"`
	PeakMiB        float64   `json:"peak_mib"`
	AnonMiB        float64   `json:"peak_anon_mib"` // without mapped files
	Other          float64   `json:"other_load_percent"`
	Taken          float64   `json:"taken_by_host_percent"`
	Lost           int       `json:"lost"`
	Twice          int       `json:"twice"`
	Signed         int       `json:"with_signature"`
}

// calm is how long nothing may arrive before the rest is asked for.
const calm = 10 * time.Second

// through sends n messages through a relay, waits until all have arrived, and
// says what it took. Log-ins are in it.
func (b *bench) through(ctx context.Context, r *relay, l load.Load, n int) (result, error) {
	run := b.arrivals.Open(n, max(l.Recipients, 1))
	defer b.arrivals.Close(run)
	w := proc.WatchTrees(r.pids)
	crew := load.NewCrew(r.aim(l))
	sent, err := crew.Send(ctx, run, 0)
	crew.Close()
	if err == nil {
		err = b.await(ctx, r, run, sent.Accepted)
	}
	res := resultOf(sent, run, w.Stop())
	if err != nil {
		return res, fmt.Errorf("%s: %w", r.name, err)
	}
	return res, errors.Join(res.check(r), ctx.Err())
}

// patience is how often a relay is asked to try again what it put off.
const patience = 6

// await waits until n messages of a run have arrived. A relay that put some off
// is asked for them: that is slow, but nothing is lost.
func (b *bench) await(ctx context.Context, r *relay, run *sink.Run, n int) error {
	for range patience {
		if run.Await(ctx, n, calm); run.Arrived() >= n || ctx.Err() != nil {
			break
		}
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	time.Sleep(200 * time.Millisecond) // what would come twice
	return ctx.Err()
}

// resultOf puts together what the client, the sink and the kernel saw.
func resultOf(sent load.Sent, run *sink.Run, used proc.Used) result {
	each := float64(max(sent.Accepted, 1))
	res := result{
		Messages: run.Len(), Accepted: sent.Accepted, AcceptedPerSec: float64(sent.Accepted) / sent.Lasted.Seconds(), Accept: quantilesOf(sent.Took),
		CPU: milliseconds(used.CPU) / each, Harness: milliseconds(used.Own) / each, PeakMiB: used.Peak, AnonMiB: used.Anon, Other: used.Other, Taken: used.Taken,
		Twice: run.Twice(), Signed: run.Signed(),
	}
	late, lost := lateness(sent, run)
	res.Late, res.Lost = quantilesOf(late), lost
	if d := run.Last().Sub(sent.Start); d > 0 {
		res.RelayedPerSec = float64(run.Arrived()) / d.Seconds()
	}
	return res
}

// lateness is how long each message took to arrive, and how many that were
// accepted did not.
func lateness(sent load.Sent, run *sink.Run) (late []time.Duration, lost int) {
	late = make([]time.Duration, 0, len(sent.Took))
	for i, took := range sent.Took {
		switch at := run.Came(i); {
		case at > 0:
			late = append(late, time.Duration(at-sent.Began[i]))
		case took > 0:
			lost++
		}
	}
	return late, lost
}

// check is the error of a relay that lost something or sent it twice, or did not
// sign what it should.
func (r *result) check(by *relay) error {
	switch {
	case r.Lost > 0 || r.Twice > 0:
		return fmt.Errorf("%s: %d messages were lost, %d came twice", by.name, r.Lost, r.Twice)
	case r.Accepted != r.Messages:
		return fmt.Errorf("%s: %d of %d messages were accepted", by.name, r.Accepted, r.Messages)
	case by.signs && r.Signed != r.Messages:
		return fmt.Errorf("%s: %d of %d messages were signed", by.name, r.Signed, r.Messages)
	}
	return nil
}

// whole is the error of a run of which something is missing or came twice.
func whole(run *sink.Run, want int) error {
	if lost, twice := want-run.Arrived(), run.Twice(); lost > 0 || twice > 0 {
		return fmt.Errorf("%d messages were lost, %d came twice", lost, twice)
	}
	return nil
}
