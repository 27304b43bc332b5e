package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"behalf/internal/config"
)

func configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check or describe the configuration (offline)", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var file string
	check := &cobra.Command{
		Use: "check", Short: "Check a configuration file", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := config.Load(file, os.Environ()); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "ok")
			return err
		},
	}
	check.Flags().StringVar(&file, "config", "", "configuration `FILE`")
	schema := &cobra.Command{
		Use: "schema", Short: "Print the JSON schema of the configuration", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(config.Schema())
			return err
		},
	}
	c.AddCommand(check, schema)
	return c
}
