package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func clientCommands() []*cobra.Command {
	f := &clientFlags{}
	cs := []*cobra.Command{
		applyCommand(f), getCommand(f), deleteCommand(f), tenantCommand(f), credentialCommand(f), domainCommand(f),
		sendCommand(f), messageCommand(f), queueCommand(f), suppressionCommand(f), policyCommand(f),
	}
	for _, c := range cs {
		f.add(c)
	}
	return cs
}

// selection are the flags that pick messages.
type selection struct {
	tenant, state, domain, recipient, from, tag, stream, credential, messageID, rule, since, until string
}

func (s *selection) add(c *cobra.Command) {
	c.Flags().StringVar(&s.tenant, "tenant", "", "of this `TENANT`")
	c.Flags().StringVar(&s.state, "state", "", "with a recipient in this `STATE`")
	c.Flags().StringVar(&s.domain, "domain", "", "with a recipient at this `DOMAIN`")
	c.Flags().StringVar(&s.recipient, "recipient", "", "to this `ADDRESS`")
	c.Flags().StringVar(&s.from, "from", "", "From this `ADDRESS`")
	c.Flags().StringVar(&s.tag, "tag", "", "with this `TAG`")
	c.Flags().StringVar(&s.stream, "stream", "", "in this `STREAM`")
	c.Flags().StringVar(&s.credential, "credential", "", "submitted by this `USERNAME`")
	c.Flags().StringVar(&s.messageID, "message-id", "", "with this `MESSAGE-ID`")
	c.Flags().StringVar(&s.rule, "rule", "", "with a recipient held by this `RULE` of policy")
	c.Flags().StringVar(&s.since, "since", "", "accepted at this `TIME` (RFC 3339) or later")
	c.Flags().StringVar(&s.until, "until", "", "accepted before this `TIME` (RFC 3339)")
}

func (s *selection) fields() map[string]string {
	all := map[string]string{"tenant": s.tenant, "state": s.state, "domain": s.domain, "recipient": s.recipient, "from": s.from, "tag": s.tag,
		"stream": s.stream, "credential": s.credential, "message_id": s.messageID, "rule": s.rule, "since": s.since, "until": s.until}
	for k, v := range all {
		if v == "" {
			delete(all, k)
		}
	}
	return all
}

func (s *selection) query() url.Values {
	q := url.Values{}
	for k, v := range s.fields() {
		q.Set(k, v)
	}
	return q
}

// fieldsText writes a selection as its flags.
func fieldsText(fields map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		parts = append(parts, "--"+strings.ReplaceAll(k, "_", "-")+" "+fields[k])
	}
	return strings.Join(parts, " ")
}

var messageColumns = []column{{"ID", "id"}, {"ACCEPTED", "accepted"}, {"TENANT", "tenant"}, {"FROM", "from"}, {"TO", "recipients.address"}, {"STATE", "recipients.state"}, {"SUBJECT", "subject"}}

func messageCommand(f *clientFlags) *cobra.Command {
	var o output
	var s selection
	var most int
	list := &cobra.Command{Use: "list", Short: "List messages, newest first", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return showList(cmd, f, &o, "/v1/messages", s.query(), most, messageColumns)
	}}
	o.add(list)
	s.add(list)
	list.Flags().IntVar(&most, "limit", 50, "at most so many; 0 for all")

	var so output
	show := &cobra.Command{Use: "show ID", Short: "Show a message", Args: exactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return showOne(cmd, f, &so, "messages", args[0], "")
	}}
	so.add(show)

	var to output
	trace := &cobra.Command{Use: "trace ID", Short: "Tell everything that happened to a message", Args: exactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		api, err := f.client()
		if err != nil {
			return err
		}
		var it json.RawMessage
		if err := api.call(cmd.Context(), http.MethodGet, "/v1/messages/"+url.PathEscape(args[0]), nil, nil, &it); err != nil {
			return err
		}
		if to.format != "table" {
			return to.one(cmd.OutOrStdout(), it)
		}
		return writeTrace(cmd.OutOrStdout(), it)
	}}
	to.add(trace)

	raw := &cobra.Command{Use: "raw ID", Short: "Print a message as it was submitted", Args: exactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		api, err := f.client()
		if err != nil {
			return err
		}
		resp, err := api.do(cmd.Context(), http.MethodGet, "/v1/messages/"+url.PathEscape(args[0])+"/raw", nil, nil, nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(cmd.OutOrStdout(), resp.Body)
		return err
	}}
	return group("message", "Messages and their traces", list, show, trace, raw)
}

var queueColumns = []column{{"TENANT", "tenant"}, {"LANE", "lane"}, {"DEPTH", "depth"}, {"READY", "ready"}, {"IN FLIGHT", "in_flight"}, {"WINDOW", "window"}, {"BOUND BY", "limit"}, {"NEXT", "next"}, {"LAST FAILURE", "last_fail"}}

func queueCommand(f *clientFlags) *cobra.Command {
	var o output
	var of string
	list := &cobra.Command{Use: "list", Short: "List queues: what waits where, and which limit binds", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return showList(cmd, f, &o, "/v1/queue", tenantQuery(of), 0, queueColumns)
	}}
	o.add(list)
	list.Flags().StringVar(&of, "tenant", "", "only of this `TENANT`")
	var so output
	stats := &cobra.Command{Use: "stats", Short: "Count recipients by state", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		api, err := f.client()
		if err != nil {
			return err
		}
		var it json.RawMessage
		if err := api.call(cmd.Context(), http.MethodGet, "/v1/queue/stats", nil, nil, &it); err != nil {
			return err
		}
		return so.one(cmd.OutOrStdout(), it)
	}}
	so.add(stats)
	cs := []*cobra.Command{list, stats}
	for _, op := range []struct{ name, short string }{
		{"retry", "Try messages again now"}, {"hold", "Keep messages until they are released"},
		{"release", "Let go of held messages"}, {"cancel", "Give up what is not yet delivered"},
	} {
		cs = append(cs, operationCommand(f, op.name, op.short))
	}
	return group("queue", "The queue and what can be done to it", cs...)
}

// operationCommand acts on the messages named, or on all that match.
func operationCommand(f *clientFlags, name, short string) *cobra.Command {
	var s selection
	var reason, releaseAt string
	var all bool
	c := &cobra.Command{Use: name + " [ID]… [flags]", Short: short, Long: short + ": those named by ID, or all that match the flags.",
		RunE: func(cmd *cobra.Command, ids []string) error {
			fields := s.fields()
			if len(ids) == 0 && len(fields) == 0 && !all {
				return usageError{fmt.Errorf("name messages by ID, pick them by flags, or say --all")}
			}
			if len(ids) > 0 && (len(fields) > 0 || all) {
				return usageError{fmt.Errorf("give either IDs or flags that pick messages")}
			}
			api, err := f.client()
			if err != nil {
				return err
			}
			body := map[string]any{}
			for k, v := range fields {
				body[k] = v
			}
			set(body, "reason", reason)
			if all || len(ids) == 0 && len(fields) == 1 && fields["tenant"] != "" {
				body["all"] = true // of the tenant named
			}
			set(body, "release_at", releaseAt)
			paths := []string{"/v1/queue/" + name}
			if len(ids) > 0 {
				paths = paths[:0]
				for _, id := range ids {
					paths = append(paths, "/v1/messages/"+url.PathEscape(id)+"/"+name)
				}
			}
			changed := 0
			for _, p := range paths {
				var out struct{ Changed int }
				if err := api.call(cmd.Context(), http.MethodPost, p, nil, body, &out); err != nil {
					return err
				}
				changed += out.Changed
			}
			if changed == 0 && len(fields) > 0 && body["all"] == nil { // a misspelt name finds nothing, and would look like a success
				return fmt.Errorf("%s: no recipient that it could change matches %s", name, fieldsText(fields))
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d recipients changed\n", name, changed)
			return err
		}}
	s.add(c)
	c.Flags().StringVar(&reason, "reason", "", "kept in the trace")
	c.Flags().BoolVar(&all, "all", false, "every message")
	if name == "hold" {
		c.Flags().StringVar(&releaseAt, "release-at", "", "released by itself at this `TIME` (RFC 3339)")
	}
	return c
}
