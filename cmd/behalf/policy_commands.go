package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"behalf/policies"
	"behalf/policy"
)

// policyCommand checks, tests and tries policies in files, without a server, and
// shows and changes what is in force on one.
func policyCommand(f *clientFlags) *cobra.Command {
	var path string
	check := &cobra.Command{Use: "check", Short: "Compile policies and check every reference to their input", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			problems := policy.Check(path, policies.FS)
			for _, p := range problems {
				fmt.Fprintln(cmd.OutOrStdout(), p)
			}
			if len(problems) > 0 {
				return fmt.Errorf("%d problems", len(problems))
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "ok")
			return err
		}}
	test := &cobra.Command{Use: "test", Short: "Run the tests of policies", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, ok, err := policy.Test(cmd.Context(), path, policies.FS, cmd.OutOrStdout())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d passed, %d failed, coverage %.1f%%\n", report.Passed, report.Failed, report.Coverage)
			for _, f := range report.Files {
				if len(f.Uncovered) > 0 {
					fmt.Fprintf(cmd.OutOrStdout(), "not covered: %s lines %v\n", f.File, f.Uncovered)
				}
			}
			if !ok {
				return errors.New("the tests did not pass")
			}
			return nil
		}}
	var input, pkg string
	eval := &cobra.Command{Use: "eval --input FILE", Short: "Ask policies about one input, rule by rule", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if input == "" {
				return usageError{errors.New("give the input with --input FILE; - is the standard input")}
			}
			r := io.Reader(cmd.InOrStdin())
			if input != "-" {
				f, err := os.Open(input)
				if err != nil {
					return err
				}
				defer f.Close()
				r = f
			}
			ex, err := policy.EvalFile(cmd.Context(), path, policies.FS, pkg, r)
			if err != nil {
				return err
			}
			enc := json.NewEncoder(cmd.OutOrStdout())
			enc.SetIndent("", "  ")
			return enc.Encode(ex)
		}}
	eval.Flags().StringVar(&input, "input", "", "`FILE` with the input of a stage as JSON")
	eval.Flags().StringVar(&pkg, "package", "", "stage to ask; default told from the input")
	for _, offline := range []*cobra.Command{check, test, eval} {
		offline.Short += " (offline)"
		offline.PreRunE = func(*cobra.Command, []string) error {
			if path == "" {
				return nil
			}
			if _, err := os.Stat(path); err != nil {
				return fmt.Errorf("--path: %w", err)
			}
			return nil
		}
		offline.Flags().StringVar(&path, "path", "", "`FOLDER` of policies; default the built-in ones")
	}
	return group("policy", "Check, test and try policies; see and accept what is in force", check, test, eval,
		policyStatusCommand(f), policyAcceptCommand(f), policyShadowCommand(f), policyReplayCommand(f))
}
