package main

import (
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

// domainCommand is for the domains of tenants and what their DNS must say.
func domainCommand(f *clientFlags) *cobra.Command {
	var o output
	var of string
	var zone bool
	records := &cobra.Command{Use: "records NAME", Short: "The DNS records to publish for a domain, with what stands there now", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, name := splitName("domains", of, args[0])
			if zone {
				return showZone(cmd, f, name, t)
			}
			return showList(cmd, f, &o, "/v1/domains/"+url.PathEscape(name)+"/records", tenantQuery(t), 0,
				[]column{{"STATUS", "status"}, {"TYPE", "type"}, {"NAME", "name"}, {"VALUE", "value"}, {"HELP", "help"}})
		}}
	o.add(records)
	records.Flags().BoolVar(&zone, "zone", false, "as a fragment of a zone file, to be pasted")
	records.Flags().StringVar(&of, "tenant", "", "owner of the domain")
	return group("domain", "Domains of tenants", records, listCommand(f, "domains"), showCommand(f, "domains"), removeCommand(f, "domain"))
}

// showZone prints the records of a domain as name servers read them.
func showZone(cmd *cobra.Command, f *clientFlags, name, of string) error {
	api, err := f.client()
	if err != nil {
		return err
	}
	resp, err := api.do(cmd.Context(), http.MethodGet, "/v1/domains/"+url.PathEscape(name)+"/records", tenantQuery(of), nil, http.Header{"Accept": {"text/dns"}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(cmd.OutOrStdout(), resp.Body)
	return err
}
