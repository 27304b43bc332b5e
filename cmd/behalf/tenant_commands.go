package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// group is a command that only has others below it.
func group(use, short string, below ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("unknown command %q for %s", args[0], cmd.CommandPath())}
		}
		return cmd.Help()
	}}
	c.AddCommand(below...)
	return c
}

func tenantCommand(f *clientFlags) *cobra.Command {
	var labels []string
	var notify, display string
	add := &cobra.Command{
		Use: "add NAME", Short: "Add a tenant, or change it", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return edit(cmd, f, "tenants", "", args[0], map[string]any{"kind": "tenant", "name": args[0]}, func(t map[string]any) error {
				if len(labels) > 0 {
					m, _ := t["labels"].(map[string]any)
					if m == nil {
						m = map[string]any{}
					}
					for _, l := range labels {
						k, v, ok := strings.Cut(l, "=")
						if !ok {
							return usageError{fmt.Errorf("--label %s: want name=value", l)}
						}
						m[k] = v
					}
					t["labels"] = m
				}
				set(t, "notify", notify)
				set(t, "display_name", display)
				return nil
			})
		},
	}
	add.Flags().StringArrayVar(&labels, "label", nil, "`NAME=VALUE` for policies; may be repeated")
	add.Flags().StringVar(&notify, "notify", "", "`ADDRESS` that is told of failures")
	add.Flags().StringVar(&display, "display-name", "", "name that people know")

	var reason, until string
	suspend := &cobra.Command{
		Use: "suspend NAME --reason TEXT", Short: "Refuse a tenant's mail at the door", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usageError{errors.New("say why: --reason TEXT")}
			}
			s := map[string]any{"reason": reason}
			if until != "" {
				d, err := time.ParseDuration(until)
				if err != nil {
					return usageError{fmt.Errorf("--for %s: want a duration such as 24h", until)}
				}
				s["until"] = time.Now().Add(d).UTC().Format(time.RFC3339)
			}
			return edit(cmd, f, "tenants", "", args[0], nil, func(t map[string]any) error { t["suspended"] = s; return nil })
		},
	}
	suspend.Flags().StringVar(&reason, "reason", "", "told to the tenant's apps")
	suspend.Flags().StringVar(&until, "for", "", "ends by itself after this `DURATION`")
	resume := &cobra.Command{
		Use: "resume NAME", Short: "Lift a suspension", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return edit(cmd, f, "tenants", "", args[0], nil, func(t map[string]any) error { delete(t, "suspended"); return nil })
		},
	}
	below := []*cobra.Command{add, suspend, resume, limitsCommand(f), listCommand(f, "tenants"), showCommand(f, "tenants"), removeCommand(f, "tenant")}
	return group("tenant", "Tenants", append(below, unusualCommands(f)...)...)
}

func set(m map[string]any, k, v string) {
	if v != "" {
		m[k] = v
	}
}

// edit reads a resource, or begins with fresh where it does not exist, changes
// it and applies it if nobody changed it meanwhile.
func edit(cmd *cobra.Command, f *clientFlags, path, of, name string, fresh map[string]any, change func(map[string]any) error) error {
	api, err := f.client()
	if err != nil {
		return err
	}
	h := http.Header{"Content-Type": {"application/json"}}
	v := fresh
	resp, err := api.do(cmd.Context(), http.MethodGet, "/v1/"+path+"/"+url.PathEscape(name), tenantQuery(of), nil, nil)
	switch {
	case err == nil:
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
			return fmt.Errorf("reading the server's answer: %w", err)
		}
		h["If-Match"] = []string{resp.Header.Get("ETag")}
	case fresh == nil || !strings.Contains(err.Error(), "there is no such thing"):
		return err
	}
	if err := change(v); err != nil {
		return err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding the request: %w", err)
	}
	resp, err = api.do(cmd.Context(), http.MethodPost, "/v1/"+path, nil, strings.NewReader(string(b)), h)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", name, resp.Header.Get("Behalf-Change"))
	return err
}

func credentialCommand(f *clientFlags) *cobra.Command {
	var of, secret, expires, notify string
	var platform bool
	var tenants, networks []string
	add := &cobra.Command{
		Use: "add NAME --tenant TENANT | --platform", Short: "Add a credential and show its secret once", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := map[string]any{"kind": "credential", "name": args[0]}
			switch {
			case platform && of == "":
				c["scope"] = "platform"
				if len(tenants) == 0 {
					tenants = []string{"*"}
				}
				c["tenants"] = tenants
			case !platform && of != "":
				c["tenant"] = of
			default:
				return usageError{errors.New("say whose it is: either --tenant NAME or --platform")}
			}
			set(c, "secret", secret)
			set(c, "notify", notify)
			if len(networks) > 0 {
				c["networks"] = networks
			}
			if expires != "" {
				d, err := time.ParseDuration(expires)
				if err != nil {
					return usageError{fmt.Errorf("--expires %s: want a duration such as 720h", expires)}
				}
				c["expires"] = time.Now().Add(d).UTC().Format(time.RFC3339)
			}
			raw, err := json.Marshal(c)
			if err != nil {
				return err
			}
			api, err := f.client()
			if err != nil {
				return err
			}
			return applyOne(cmd, api, document{raw: raw, where: "credential " + args[0], dir: "."})
		},
	}
	add.Flags().StringVar(&of, "tenant", "", "the `TENANT` it acts for")
	add.Flags().BoolVar(&platform, "platform", false, "it acts for several tenants")
	add.Flags().StringSliceVar(&tenants, "for", nil, "with --platform: the `TENANTS`; default all")
	add.Flags().StringVar(&secret, "secret", "", "file:PATH, env:NAME or the secret itself; generated when left out")
	add.Flags().StringSliceVar(&networks, "network", nil, "usable only from these `CIDR`s")
	add.Flags().StringVar(&expires, "expires", "", "after this `DURATION`")
	add.Flags().StringVar(&notify, "notify", "", "`ADDRESS` that is told of failures")
	return group("credential", "Credentials of apps", add, listCommand(f, "credentials"), showCommand(f, "credentials"), removeCommand(f, "credential"))
}

func listCommand(f *clientFlags, path string) *cobra.Command {
	var o output
	var of string
	c := &cobra.Command{Use: "list", Short: "List " + path, Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return showList(cmd, f, &o, "/v1/"+path, tenantQuery(of), 0, kindColumns[path])
	}}
	o.add(c)
	if path != "tenants" {
		c.Flags().StringVar(&of, "tenant", "", "only of this `TENANT`")
	}
	return c
}

func showCommand(f *clientFlags, path string) *cobra.Command {
	var o output
	var of string
	c := &cobra.Command{Use: "show NAME", Short: "Show one", Args: exactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return showOne(cmd, f, &o, path, args[0], of)
	}}
	o.add(c)
	if path != "tenants" {
		c.Flags().StringVar(&of, "tenant", "", "owner")
	}
	return c
}

func removeCommand(f *clientFlags, kind string) *cobra.Command {
	d := deleteCommand(f)
	run := d.RunE
	d.Use, d.Short, d.Args = "delete NAME", "Delete one", exactArgs(1)
	d.RunE = func(cmd *cobra.Command, args []string) error { return run(cmd, []string{kind, args[0]}) }
	return d
}
