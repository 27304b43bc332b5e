package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"behalf/tenant"
)

// kindPaths says where the API keeps each kind.
var kindPaths = map[string]string{
	"tenant": "tenants", "credential": "credentials", "domain": "domains", "identity": "identities", "connection": "connections",
}

var kindColumns = map[string][]column{
	"tenants":     {{"NAME", "name"}, {"LABELS", "labels"}, {"METHODS", "methods"}, {"SUSPENDED", "suspended.reason"}, {"UPDATED", "updated"}},
	"credentials": {{"USERNAME", "username"}, {"SCOPE", "scope"}, {"TENANTS", "tenants"}, {"EXPIRES", "expires"}, {"LAST USED", "last_used"}},
	"domains":     {{"TENANT", "tenant"}, {"NAME", "name"}, {"STATE", "state"}, {"VERIFIED", "verified"}, {"DKIM", "dkim.selector"}, {"RETURN PATH", "return_path"}},
	"identities":  {{"TENANT", "tenant"}, {"ADDRESS", "address"}, {"VERIFIED", "verified"}, {"DISPLAY NAME", "display_name"}},
	"connections": {{"TENANT", "tenant"}, {"NAME", "name"}, {"PROVIDER", "provider"}, {"HOST", "smtp.host"}, {"SENDERS", "senders"}},
}

// pathOf finds the API path of a kind, in the singular or plural.
func pathOf(kind string) (string, error) {
	for k, p := range kindPaths {
		if kind == k || kind == p {
			return p, nil
		}
	}
	return "", usageError{fmt.Errorf("kind %q is not known; known are tenant, credential, domain, identity and connection", kind)}
}

func applyCommand(f *clientFlags) *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use: "apply -f FILE|DIR", Short: "Make resources be as files say", Args: noArgs,
		Long: "Make resources be as YAML documents say; applying twice changes nothing.\nSecrets given as file:PATH or env:NAME are read here, not by the server.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(files) == 0 {
				return usageError{fmt.Errorf("give a file or folder with -f")}
			}
			api, err := f.client()
			if err != nil {
				return err
			}
			for _, file := range files {
				docs, err := readResources(file, cmd.InOrStdin())
				if err != nil {
					return err
				}
				for _, d := range docs {
					if err := applyOne(cmd, api, d); err != nil {
						return fmt.Errorf("%s: %w", d.where, err)
					}
				}
			}
			return nil
		},
	}
	c.Flags().StringArrayVarP(&files, "file", "f", nil, "`FILE` or folder of YAML documents; - is the standard input; may be repeated")
	return c
}

func applyOne(cmd *cobra.Command, api *client, d document) error {
	raw, err := tenant.ResolveSecrets(d.raw, d.dir)
	if err != nil {
		return err
	}
	var head struct {
		Kind                          string `json:"kind"`
		Name, Address, Tenant, Secret string
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return err
	}
	path, err := pathOf(head.Kind)
	if err != nil {
		return err
	}
	var got struct{ Secret, Username string }
	change, err := api.apply(cmd.Context(), path, raw, &got)
	if err != nil {
		return err
	}
	name := head.Name + head.Address
	if head.Tenant != "" {
		name = head.Tenant + "/" + name
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s %s\n", head.Kind, name, change); err != nil {
		return err
	}
	if got.Secret != "" && head.Secret == "" {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "  username %s\n  secret   %s   (shown only now)\n", got.Username, got.Secret)
	}
	return err
}

func getCommand(f *clientFlags) *cobra.Command {
	var o output
	var of string
	c := &cobra.Command{
		Use: "get KIND [NAME]", Short: "Show resources", Args: betweenArgs(1, 2),
		ValidArgs: []string{"tenant", "credential", "domain", "identity", "connection"},
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := pathOf(args[0])
			if err != nil {
				return err
			}
			if len(args) == 2 {
				return showOne(cmd, f, &o, path, args[1], of)
			}
			return showList(cmd, f, &o, "/v1/"+path, tenantQuery(of), 0, kindColumns[path])
		},
	}
	o.add(c)
	c.Flags().StringVar(&of, "tenant", "", "only of this `TENANT`")
	return c
}

func tenantQuery(of string) url.Values {
	q := url.Values{}
	if of != "" {
		q.Set("tenant", of)
	}
	return q
}

func showOne(cmd *cobra.Command, f *clientFlags, o *output, path, name, of string) error {
	api, err := f.client()
	if err != nil {
		return err
	}
	var it json.RawMessage
	of, name = splitName(path, of, name)
	if err := api.call(cmd.Context(), http.MethodGet, "/v1/"+path+"/"+url.PathEscape(name), tenantQuery(of), nil, &it); err != nil {
		return err
	}
	return o.one(cmd.OutOrStdout(), it)
}

// splitName takes a username such as acme/app as tenant and name.
func splitName(path, of, name string) (string, string) {
	if t, n, ok := strings.Cut(name, "/"); ok && of == "" && path != "tenants" {
		if t == "platform" && path == "credentials" {
			t = ""
		}
		return t, n
	}
	return of, name
}

func showList(cmd *cobra.Command, f *clientFlags, o *output, path string, q url.Values, most int, columns []column) error {
	api, err := f.client()
	if err != nil {
		return err
	}
	var items []json.RawMessage
	err = api.list(cmd.Context(), path, q, most, func(it json.RawMessage) error {
		items = append(items, it)
		return nil
	})
	if err != nil {
		return err
	}
	return o.write(cmd.OutOrStdout(), items, columns)
}

func deleteCommand(f *clientFlags) *cobra.Command {
	var of string
	c := &cobra.Command{
		Use: "delete KIND NAME", Short: "Delete a resource", Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := pathOf(args[0])
			if err != nil {
				return err
			}
			api, err := f.client()
			if err != nil {
				return err
			}
			t, name := splitName(path, of, args[1])
			if err := api.call(cmd.Context(), http.MethodDelete, "/v1/"+path+"/"+url.PathEscape(name), tenantQuery(t), nil, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s deleted\n", args[0], args[1])
			return err
		},
	}
	c.Flags().StringVar(&of, "tenant", "", "owner of the resource")
	return c
}
