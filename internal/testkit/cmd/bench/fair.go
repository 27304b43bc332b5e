package main

import (
	"context"
	"errors"
	"fmt"

	"behalf/internal/testkit/cmd/bench/load"
	"behalf/internal/testkit/cmd/bench/sink"
)

// quietRate is what the measured tenant sends, a second.
const quietRate = 20

// fairLimit is what its 95th percentile from submission to delivery must stay
// under.
const fairLimit = 1000.0

// trouble is what goes on beside the tenant that is measured.
type trouble struct {
	name, what string
	noisy      string    // tenant that sends as fast as it can; empty: nobody
	mode       sink.Mode // of its hop; with Up it is the hop of all
}

func troubles() []trouble {
	return []trouble{
		{"alone", "alone", "", sink.Up},
		{"flood", "beside a tenant that queues %d messages for the same hop", "flood", sink.Up},
		{"hang", "beside %d messages for a hop that accepts connections and says nothing", "hang", sink.Hangs},
		{"defer", "beside %d messages for a destination that answers 451 to all", "defer", sink.Defers},
	}
}

// fairResult is what one phase showed of the measured tenant.
type fairResult struct {
	Phase  string    `json:"phase"`
	Noise  int       `json:"noise"` // messages of the other
	Sent   int       `json:"messages"`
	Accept quantiles `json:"accept"`
	Late   quantiles `json:"accepted_to_relayed"`
	Other  float64   `json:"noise_accepted_per_second"`
}

// fair measures one tenant, 20 messages a second, beside others in trouble. In
// the end the hops recover, and everything must have arrived once.
func (b *bench) fair(ctx context.Context) (err error) {
	ours, err := b.newBehalf("fair")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.close()) }()
	resources, hops := plainTenant("plain", b.sink.Port()), map[string]*sink.Sink{}
	for _, t := range troubles()[1:] {
		hop := b.sink
		if t.mode != sink.Up {
			if hop, err = sink.Listen(b.arrivals); err != nil {
				return err
			}
			defer hop.Close()
			hop.Set(t.mode)
		}
		hops[t.noisy] = hop
		resources += plainTenant(t.noisy, hop.Port())
	}
	r, err := ours.run(ctx, setup{resources: resources})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	b.say("| a tenant that sends %d a second | accept p50 / p99 | accepted to delivered p50 / p95 / p99 / most |\n| --- | --- | --- |\n", quietRate)
	var verdict error
	for _, t := range troubles() {
		got, noise, err := b.phaseOf(ctx, r, t)
		if err == nil && noise != nil {
			if hops[t.noisy].Set(sink.Up); t.mode != sink.Up {
				err = r.flush(ctx)
			}
			err = errors.Join(err, b.drain(ctx, r, noise))
			b.arrivals.Close(noise)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		b.note(got)
		b.say("| %s | %.0f / %.0f ms | %.0f / **%.0f** / %.0f / %.0f ms |\n", t.told(b.flood), got.Accept.P50, got.Accept.P99, got.Late.P50, got.Late.P95, got.Late.P99, got.Late.Max)
		if got.Late.P95 >= fairLimit {
			verdict = errors.Join(verdict, fmt.Errorf("%s: p95 is %.0f ms, %.0f are allowed", t.name, got.Late.P95, fairLimit))
		}
	}
	b.say("\n")
	return verdict
}

func (t trouble) told(n int) string {
	if t.noisy == "" {
		return t.what
	}
	return fmt.Sprintf(t.what, n)
}

// phaseOf lets the other tenant make its trouble and measures meanwhile. noise
// is what the other sent; its arrival is still to be waited for.
func (b *bench) phaseOf(ctx context.Context, r *relay, t trouble) (got fairResult, noise *sink.Run, err error) {
	run := b.arrivals.Open(max(1, int(b.phase.Seconds()*quietRate)), 1)
	defer b.arrivals.Close(run)
	crew := load.NewCrew(r.aim(load.Load{Sessions: 4, Size: 4096}))
	defer crew.Close()
	got = fairResult{Phase: t.name, Sent: run.Len()}
	loud := make(chan error, 1)
	if t.noisy == "" {
		loud <- nil
	} else {
		noise, got.Noise = b.arrivals.Open(b.flood, 1), b.flood
		go func() {
			res, err := b.pile(ctx, r, noise, load.Load{Accounts: []load.Account{plainAccount(t.noisy)}, Sessions: 20, Size: 4096})
			got.Other = res.AcceptedPerSec
			loud <- err
		}()
	}
	sent, err := crew.Send(ctx, run, quietRate)
	if err == nil {
		run.Await(ctx, run.Len(), calm)
		err = whole(run, run.Len())
	}
	err = errors.Join(err, <-loud)
	if err != nil {
		return got, noise, err
	}
	if t.noisy != "" && t.mode == sink.Up { // what came after the flood shows nothing
		err = b.drain(ctx, r, noise)
		cut := run.Len()
		for i, at := range sent.Began {
			if at > noise.Last().UnixNano() {
				cut = min(cut, i)
			}
		}
		got.Sent, sent.Began, sent.Took = cut, sent.Began[:cut], sent.Took[:cut]
	}
	late, _ := lateness(sent, run)
	got.Accept, got.Late = quantilesOf(sent.Took), quantilesOf(late)
	return got, noise, err
}
