package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"behalf/internal/config"
	"behalf/internal/obs"
	"behalf/tenant"
)

func serveCommand() *cobra.Command {
	var file string
	var apply []string
	c := &cobra.Command{
		Use: "serve", Short: "Run the relay", Args: noArgs,
		Long: "Run the relay: its doors, its queue and its API, until SIGTERM or SIGINT.\n" +
			"Without --config it runs in development mode: loopback ports, ./data, and every message is kept in local Maildirs.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			defer paceCollector()()
			cfg, err := config.Load(file, os.Environ())
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, apply, obs.Logger(os.Stderr, cfg.Log.Format, cfg.Log.Level))
		},
	}
	c.Flags().StringVar(&file, "config", "", "configuration `FILE`")
	c.Flags().StringArrayVar(&apply, "apply", nil, "apply the resources in `FILE` or folder at start; may be repeated")
	return c
}

// serve runs a relay until ctx ends.
func serve(ctx context.Context, cfg *config.Config, apply []string, log *slog.Logger) error {
	limitMemory()
	s, err := newServer(ctx, cfg, log)
	if err != nil {
		return err
	}
	for _, path := range apply {
		if err := s.apply(ctx, path); err != nil {
			return fmt.Errorf("applying %s: %w", path, errors.Join(err, s.closeAll()))
		}
	}
	log.Info("ready", "version", version, "hostname", cfg.Hostname, "data", cfg.Data, "admin_key_file", cfg.Admin.KeyFile)
	return s.run(ctx)
}

// apply makes resources be as a file or folder says, as the administrator.
func (s *server) apply(ctx context.Context, path string) error {
	docs, err := readResources(path, os.Stdin)
	if err != nil {
		return err
	}
	for _, d := range docs {
		raw, err := tenant.ResolveSecrets(d.raw, d.dir)
		if err != nil {
			return fmt.Errorf("%s: %w", d.where, err)
		}
		_, change, err := s.directory.Apply(ctx, raw, tenant.Actor{Name: "admin", Admin: true}, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", d.where, err)
		}
		s.log.Info("applied", "from", d.where, "change", string(change))
	}
	return nil
}
