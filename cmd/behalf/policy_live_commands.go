package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"behalf/policy"
	"behalf/web/api"
)

// policyStatusCommand shows what is in force, what waits, and what was before.
func policyStatusCommand(f *clientFlags) *cobra.Command {
	var out output
	c := &cobra.Command{Use: "status", Short: "Show the policies in force, what waits, and what changed", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return show(cmd, f, &out, "/v1/policies", writeStatus)
	}}
	out.add(c)
	return c
}

// show gets one object of the API and writes it, as a table by write.
func show[T any](cmd *cobra.Command, f *clientFlags, out *output, path string, write func(io.Writer, *T) error) error {
	server, err := f.client()
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := server.call(cmd.Context(), http.MethodGet, path, nil, nil, &raw); err != nil {
		return err
	}
	if out.format != "table" {
		return out.one(cmd.OutOrStdout(), raw)
	}
	v := new(T)
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	return write(cmd.OutOrStdout(), v)
}

func writeStatus(w io.Writer, st *api.PolicyStatus) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	from := "from bundles"
	if st.Default {
		from = "built in"
	} else if st.Path != "" {
		from = "from " + st.Path
	}
	fmt.Fprintf(t, "in force\t%s\tsince %s, %s\n", st.Digest, when(st.Loaded), from)
	if st.Error != "" {
		fmt.Fprintf(t, "refused\tsince %s\t%s\n", when(st.Since), st.Error)
	}
	for _, b := range st.Bundles {
		state := "polled " + when(b.Polled)
		if b.Polled.IsZero() {
			state = "not polled yet"
		}
		if b.Error != "" {
			state = "since " + when(b.Since) + ": " + b.Error
		}
		fmt.Fprintf(t, "bundle\t%s %s\t%s\n", b.Name, b.Revision, state)
	}
	for _, b := range st.Failing {
		fmt.Fprintf(t, "failing\t%s\t%d of %d times in the last minute: %s\n", b.Package, b.Count, b.Asked, b.Last)
	}
	if p := st.Pending; p != nil {
		next := "replay it, then accept it"
		if p.Reviewed {
			next = "it was replayed, " + reviewText(p.Review) + "; accept it with  behalf policy accept " + p.Digest
		}
		fmt.Fprintf(t, "waits\t%s\tsince %s; %s\n", p.Digest, when(p.Since), next)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if p := st.Pending; p != nil {
		fmt.Fprintln(w, "\nwhat the set that waits changes")
		writeChanges(w, &p.Changes)
	}
	for _, a := range st.History {
		by := ""
		if a.By != "" {
			by = ", accepted by " + a.By
		}
		switch {
		case a.Unseen:
			by += " without a replay"
		case a.Review != nil:
			by += " (" + reviewText(a.Review) + ")"
		}
		fmt.Fprintf(w, "\n%s  %s  %d files%s\n", when(a.At), a.Digest, a.Files, by)
		writeChanges(w, &a.Changes)
	}
	return nil
}

// reviewText is what a replay found, in a few words.
func reviewText(r *policy.Review) string {
	return fmt.Sprintf("%d of %d decisions asked, %d differ", r.Asked, r.Decisions, r.Differing)
}

func writeChanges(w io.Writer, c *policy.Changes) {
	for _, x := range c.Files {
		fmt.Fprintf(w, "  %-8s file  %s\n", x.Change, x.File)
	}
	for _, x := range c.Rules {
		fmt.Fprintf(w, "  %-8s rule  %s: %s %s (%s)\n", x.Change, x.Package, x.Result, x.Rule, x.File)
	}
	for _, x := range c.Data {
		fmt.Fprintf(w, "  %-8s data  %s\n", x.Change, x.Path)
	}
	if c.More > 0 {
		fmt.Fprintf(w, "  and %d more\n", c.More)
	}
}

func when(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// policyAcceptCommand puts the set that waits in force.
func policyAcceptCommand(f *clientFlags) *cobra.Command {
	var force bool
	c := &cobra.Command{Use: "accept DIGEST", Short: "Put the set that waits in force, once it was replayed", Args: exactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		server, err := f.client()
		if err != nil {
			return err
		}
		if err := server.call(cmd.Context(), http.MethodPost, "/v1/policies/accept", nil, map[string]any{"digest": args[0], "force": force}, nil); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is in force\n", args[0])
		return err
	}}
	c.Flags().BoolVar(&force, "force", false, "although nobody replayed it, which the history then tells")
	return c
}

// policyShadowCommand shows what a draft would have decided otherwise.
func policyShadowCommand(f *clientFlags) *cobra.Command {
	var out output
	c := &cobra.Command{Use: "shadow", Short: "Show what the draft beside the policies in force would decide otherwise", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return show(cmd, f, &out, "/v1/policies/shadow", writeShadow)
	}}
	out.add(c)
	return c
}

func writeShadow(w io.Writer, r *policy.ShadowReport) error {
	fmt.Fprintf(w, "draft %s in %s\n", r.Digest, r.Path)
	if r.Error != "" {
		fmt.Fprintf(w, "not tried: %s\n", r.Error)
	}
	fmt.Fprintf(w, "%d the same, %d different, %d failed, %d dropped", r.Same, r.Differs, r.Failed, r.Dropped)
	if !r.Since.IsZero() {
		fmt.Fprintf(w, " since %s", when(r.Since))
	}
	fmt.Fprintln(w)
	if r.LastError != "" {
		fmt.Fprintf(w, "last failure: %s\n", r.LastError)
	}
	for _, g := range r.Groups {
		fmt.Fprintf(w, "\n%d  tenant %s  %s  %s -> %s  %s\n", g.Count, g.Tenant, g.Package, g.Was, g.Would, g.Rule)
		for _, x := range g.Examples {
			fmt.Fprintf(w, "    %s  from %s", when(x.At), x.From)
			for _, more := range [][2]string{{"to ", x.Recipient}, {"subject ", x.Subject}, {"", x.MessageID}} {
				if more[1] != "" {
					fmt.Fprintf(w, "  %s%s", more[0], more[1])
				}
			}
			fmt.Fprintf(w, "\n        %s\n", x.Summary)
		}
	}
	if r.More > 0 {
		fmt.Fprintf(w, "\nand %d differences of other kinds\n", r.More)
	}
	return nil
}
