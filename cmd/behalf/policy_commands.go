package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"

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
			switch len(problems) {
			case 0:
			case 1:
				return errors.New("1 problem")
			default:
				return fmt.Errorf("%d problems", len(problems))
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "ok")
			return err
		}}
	test := policyTestCommand(&path)
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

// policyTestCommand runs the tests that stand beside policies.
func policyTestCommand(path *string) *cobra.Command {
	var run string
	var coverage float64
	test := &cobra.Command{Use: "test", Short: "Run the tests of policies", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var pattern *regexp.Regexp
			if run != "" {
				var err error
				if pattern, err = regexp.Compile(run); err != nil {
					return usageError{fmt.Errorf("--run: %w", err)}
				}
				if coverage > 0 {
					return usageError{errors.New("--coverage counts what all tests reach: leave out --run")}
				}
			}
			report, ok, err := policy.Test(cmd.Context(), *path, policies.FS, pattern, cmd.OutOrStdout())
			switch {
			case err != nil:
				return err
			case report.Failed > 0:
				return errors.New("the tests did not pass")
			case !ok:
				return errors.New("there is no test to run")
			case report.Coverage < coverage:
				return fmt.Errorf("the tests reach %.1f%% of the rules, %g%% were asked for", report.Coverage, coverage)
			}
			return nil
		}}
	test.Flags().StringVar(&run, "run", "", "run only the tests whose package and name match this `PATTERN`")
	test.Flags().Float64Var(&coverage, "coverage", 0, "fail if the tests reach less than this `PERCENT` of the rules")
	return test
}
