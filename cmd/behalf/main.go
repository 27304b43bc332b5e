// Command behalf is an SMTP relay for platforms that send mail on behalf of
// their customers: one binary that serves, and that talks to a running server.
// By the name sendmail it submits what it reads on its standard input.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set when the binary is built.
var version = "dev"

// The exit codes.
const (
	exitFailed = 1 // refused or failed
	exitUsage  = 2 // wrong usage
)

// usageError marks an error of how the command was called.
type usageError struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := rootCommand()
	if filepath.Base(os.Args[0]) == "sendmail" {
		root = sendmailCommand()
	}
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, root.Name()+": "+err.Error())
		var usage usageError
		if errors.As(err, &usage) {
			os.Exit(exitUsage)
		}
		os.Exit(exitFailed)
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use: "behalf", Short: "SMTP relay for platforms that send mail on behalf of their customers",
		SilenceUsage: true, SilenceErrors: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q; behalf --help lists them", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; %s --help tells more", err, cmd.CommandPath())}
	})
	root.AddCommand(serveCommand(), configCommand(), versionCommand(), policyCommand())
	root.AddCommand(clientCommands()...)
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version)
			return err
		},
	}
}

// noArgs and exactArgs are cobra's, with the exit code for wrong usage.
func noArgs(cmd *cobra.Command, args []string) error { return exactArgs(0)(cmd, args) }

func exactArgs(n int) cobra.PositionalArgs { return betweenArgs(n, n) }

func betweenArgs(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return usageError{fmt.Errorf("%s: got %d arguments; usage: %s", cmd.CommandPath(), len(args), cmd.UseLine())}
		}
		return nil
	}
}
