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
	"strings"
	"syscall"
	"unicode"

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
	code := run(ctx, commandNamed(os.Args[0]))
	stop()
	os.Exit(code)
}

// commandNamed is the command of the name that the program was called by.
func commandNamed(program string) *cobra.Command {
	if filepath.Base(program) == "sendmail" {
		return sendmailCommand()
	}
	return rootCommand()
}

// run executes a command and gives the exit code. An error is one line on the
// standard error output.
func run(ctx context.Context, root *cobra.Command) int {
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(root.ErrOrStderr(), root.Name()+": "+cleanLines(err.Error()))
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// clean replaces what would move the cursor or change the colours of a
// terminal: subjects and replies are written by strangers.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// cleanLines is clean for a text of several lines.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = clean(l)
	}
	return strings.Join(lines, "\n")
}

// badFlag is the error of a flag that is not known or not well given.
func badFlag(cmd *cobra.Command, err error) error {
	return usageError{fmt.Errorf("%w; %s --help tells more", err, cmd.CommandPath())}
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
	root.SetFlagErrorFunc(badFlag)
	root.AddCommand(serveCommand(), configCommand(), versionCommand())
	root.AddCommand(clientCommands()...)
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version, and what signs with RSA", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\nRSA: %s\n", version, whatSigns(cmd.Context(), rsaHelper(nil)))
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
