package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"behalf/internal/testkit/cmd/bench/load"
)

// profile takes a CPU profile of the relay under the loads of the tables.
func (b *bench) profile(ctx context.Context) (err error) {
	ours, err := b.newBehalf("profile")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.close()) }()
	r, err := ours.run(ctx, setup{resources: plainTenant("plain", b.sink.Port())})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	const seconds = 30
	g, ctx := errgroup.WithContext(ctx)
	over := make(chan struct{})
	g.Go(func() error {
		defer close(over)
		text, err := ours.call(ctx, http.MethodGet, fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds), "")
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(b.results, "cpu.pprof"), text, 0o644)
	})
	g.Go(func() error {
		for {
			for _, w := range []workload{{4096, 20, false}, {4096, 100, false}, {24576, 20, false}, {4096, 1, false}} {
				n := b.many
				if w.Connections == 1 {
					n /= 6
				}
				if _, err := b.through(ctx, r, load.Load{Sessions: w.Connections, Size: w.Size}, n); err != nil {
					return err
				}
				select {
				case <-over:
					return nil
				default:
				}
			}
		}
	})
	if err := g.Wait(); err != nil {
		return err
	}
	b.say("%s: %d seconds of CPU profile\n\n", filepath.Join(b.results, "cpu.pprof"), seconds)
	return nil
}
