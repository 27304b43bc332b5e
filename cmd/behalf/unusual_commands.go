package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

var episodeColumns = []column{
	{"CREDENTIAL", "credential"}, {"SINCE", "since"}, {"LAST", "last"}, {"HELD", "messages"}, {"RECIPIENTS", "recipients"}, {"SCORE", "score"},
	{"WHY", "reasons.detail"}, {"EXAMPLES", "examples"},
}

// unusualCommands show what is held as unusual and end it.
func unusualCommands(f *clientFlags) []*cobra.Command {
	var o output
	show := &cobra.Command{Use: "unusual NAME", Short: "Show a tenant's unusual mail that is held, with the evidence", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return showList(cmd, f, &o, "/v1/tenants/"+url.PathEscape(args[0])+"/unusual", nil, 0, episodeColumns)
		}}
	o.add(show)
	return []*cobra.Command{show,
		judgeCommand(f, "release", "Let go of a tenant's unusual mail; its like is usual from now on"),
		judgeCommand(f, "cancel", "Give up a tenant's unusual mail that is held"),
	}
}

func judgeCommand(f *clientFlags, name, short string) *cobra.Command {
	var credential, reason string
	c := &cobra.Command{Use: name + " NAME", Short: short, Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := f.client()
			if err != nil {
				return err
			}
			body := map[string]any{}
			set(body, "credential", credential)
			set(body, "reason", reason)
			var out struct{ Changed int }
			if err := api.call(cmd.Context(), http.MethodPost, "/v1/tenants/"+url.PathEscape(args[0])+"/unusual/"+name, nil, body, &out); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d recipients changed\n", name, out.Changed)
			return err
		}}
	c.Flags().StringVar(&credential, "credential", "", "only that of this `USERNAME`")
	c.Flags().StringVar(&reason, "reason", "", "kept in the trace")
	return c
}
