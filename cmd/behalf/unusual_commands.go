package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"behalf/limit/habit"
	"behalf/web/api"
)

// unusualCommands show what is held as unusual and end it.
func unusualCommands(f *clientFlags) []*cobra.Command {
	var o output
	show := &cobra.Command{Use: "unusual NAME", Short: "Show a tenant's unusual mail that is held, with the evidence", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/v1/tenants/" + url.PathEscape(args[0]) + "/unusual"
			if o.format != "table" {
				return showList(cmd, f, &o, path, nil, 0, nil)
			}
			c, err := f.client()
			if err != nil {
				return err
			}
			var list api.EpisodeList
			if err := c.call(cmd.Context(), http.MethodGet, path, nil, nil, &list); err != nil {
				return err
			}
			return writeEpisodes(cmd.OutOrStdout(), list.Items)
		}}
	o.add(show)
	return []*cobra.Command{show,
		judgeCommand(f, "release", "Let go of a tenant's unusual mail; its like is usual from now on"),
		judgeCommand(f, "cancel", "Give up a tenant's unusual mail that is held"),
	}
}

// writeEpisodes shows each credential's episode with its evidence, a line each.
func writeEpisodes(w io.Writer, list []habit.Episode) error {
	var b strings.Builder
	if len(list) == 0 {
		b.WriteString("nothing is held as unusual\n")
	}
	for _, e := range list {
		fmt.Fprintf(&b, "%s  score %d\n", clean(e.Credential), e.Score)
		fmt.Fprintf(&b, "  held      %d messages, %d new recipients\n", e.Messages, e.Recipients)
		fmt.Fprintf(&b, "  from      %s to %s\n", e.Since.Local().Format(time.DateTime), e.Last.Local().Format(time.DateTime))
		for i, r := range e.Reasons {
			fmt.Fprintf(&b, "  %-9s %s: %s (%d points)\n", first(i, "why"), r.Name, clean(r.Detail), r.Points)
		}
		for i, id := range e.Examples {
			fmt.Fprintf(&b, "  %-9s %s\n", first(i, "examples"), id)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// first is the word before the first of several lines.
func first(i int, word string) string {
	if i > 0 {
		return ""
	}
	return word
}

func judgeCommand(f *clientFlags, name, short string) *cobra.Command {
	var credential, reason string
	c := &cobra.Command{Use: name + " NAME", Short: short, Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.client()
			if err != nil {
				return err
			}
			body := map[string]any{}
			set(body, "credential", credential)
			set(body, "reason", reason)
			var out struct{ Changed int }
			if err := c.call(cmd.Context(), http.MethodPost, "/v1/tenants/"+url.PathEscape(args[0])+"/unusual/"+name, nil, body, &out); err != nil {
				return err
			}
			if out.Changed == 0 && credential != "" {
				return fmt.Errorf("%s: nothing of %s is held as unusual in tenant %s", name, credential, args[0])
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d recipients changed\n", name, out.Changed)
			return err
		}}
	c.Flags().StringVar(&credential, "credential", "", "only that of this `USERNAME`")
	c.Flags().StringVar(&reason, "reason", "", "kept in the trace")
	return c
}
