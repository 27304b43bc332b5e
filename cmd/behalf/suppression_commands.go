package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

var suppressionColumns = []column{{"STREAM", "stream"}, {"ADDRESS", "address"}, {"REASON", "reason"}, {"ADDED", "added"}, {"BY", "by"}, {"MESSAGE", "message"}}

// suppressionCommand is for the list of addresses that a tenant must not mail.
func suppressionCommand(f *clientFlags) *cobra.Command {
	var of, stream string
	var o output
	list := &cobra.Command{Use: "list", Short: "List the addresses that must not be mailed", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return showList(cmd, f, &o, "/v1/suppressions", tenantQuery(of), 0, suppressionColumns)
	}}
	o.add(list)
	change := func(use, short, method, done string) *cobra.Command {
		c := &cobra.Command{Use: use + " ADDRESS", Short: short, Args: exactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			api, err := f.client()
			if err != nil {
				return err
			}
			q := tenantQuery(of)
			q.Set("stream", stream)
			if err := api.call(cmd.Context(), method, "/v1/suppressions/"+url.PathEscape(args[0]), q, nil, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s in stream %s\n", args[0], done, stream)
			return err
		}}
		c.Flags().StringVar(&stream, "stream", "transactional", "the `STREAM` of mail that is meant")
		return c
	}
	c := group("suppression", "Addresses that a tenant must not mail", list,
		change("add", "Mail an address no more", http.MethodPut, "is suppressed"),
		change("remove", "Let an address be mailed again", http.MethodDelete, "may be mailed again"))
	c.PersistentFlags().StringVar(&of, "tenant", "", "whose list; needed with a key for several tenants")
	return c
}
