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

// profile takes a CPU profile of the relay under the loads of the tables, and one
// of what it allocated from its start on.
func (b *bench) profile(ctx context.Context) (err error) {
	ours, r, stop, err := b.start(ctx, "profile", setup{resources: plainTenant("plain", b.sink.Port())})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	const seconds = 30
	g, during := errgroup.WithContext(ctx)
	sent := 0
	over := make(chan struct{})
	g.Go(func() error {
		defer close(over)
		text, err := ours.call(during, http.MethodGet, fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds), "")
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(b.results, "cpu.pprof"), text, 0o644)
	})
	g.Go(func() error {
		for {
			for _, size := range b.sizes {
				for _, c := range b.connections {
					n := b.many
					if c == 1 {
						n /= 6
					}
					if _, err := b.through(during, r, load.Load{Sessions: c, Size: size}, n); err != nil {
						return err
					}
					sent += n
					select {
					case <-over:
						return nil
					default:
					}
				}
			}
		}
	})
	if err := g.Wait(); err != nil {
		return err
	}
	text, err := ours.call(ctx, http.MethodGet, "/debug/pprof/allocs", "")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.results, "allocs.pprof"), text, 0o644); err != nil {
		return err
	}
	mallocs, err := ours.metric(ctx, "go_memstats_mallocs_total")
	if err != nil {
		return err
	}
	octets, err := ours.metric(ctx, "go_memstats_alloc_bytes_total")
	if err != nil {
		return err
	}
	n := float64(sent)
	b.say("%s: %d seconds of CPU profile; %.0f allocations and %.1f KiB a message, in allocs.pprof\n\n",
		filepath.Join(b.results, "cpu.pprof"), seconds, mallocs/n, octets/n/1024)
	return nil
}
