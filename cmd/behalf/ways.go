package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"behalf/internal/egress"
	"behalf/internal/smtpclient"
	"behalf/relay"
	"behalf/tenant"
	"behalf/upstream"
	"behalf/upstream/mailbox"
	"behalf/upstream/mx"
	"behalf/upstream/smarthost"
)

// openWays builds the ways out and the planner over them.
func (s *server) openWays(context.Context) error {
	guard := &egress.Guard{Allow: s.c.Egress.Allow}
	dialer := &egress.Dialer{Guard: guard, Lookup: upstream.Lookup(s.resolver)}
	direct := mx.New(mx.Config{
		Hostname: s.c.Hostname, Own: []string{s.c.Inbound.Host}, Resolver: s.resolver, Port: s.c.MX.Port, Origin: egress.FromDNS,
		Dialer: &egress.Dialer{Guard: guard, Lookup: dialer.Lookup, Sources: s.c.MX.SourceAddresses},
		Limits: smtpclient.Limits{Total: s.dispatching().Attempts()}, // destinations that hang take them from no other
	})
	s.close = append(s.close, direct.Close)
	s.book = upstream.NewBook(0)
	s.close = append(s.close, s.book.Close)
	s.sessions = map[string]func() int{"mx": direct.Sessions, "connection": s.book.Sessions}
	s.metrics = relay.NewMetrics(s.reg)
	reverse := relay.NewReverseDNS(s.resolver, s.c.Hostname, s.c.MX.SourceAddresses, s.log)
	s.close = append(s.close, func() error { reverse.Wait(); return nil })
	o := relay.PlannerOptions{
		SendingDomain: s.c.SendingDomain, ReturnPath: s.c.Platform.ReturnPath,
		PlatformName: s.c.Platform.Name, Notify: s.c.Platform.Notify, PublicURL: s.c.PublicURL,
		Tokens: relay.NewTokens(s.keys.Derive("tokens")), Store: s.store, Capture: s.c.Capture, MX: direct, Metrics: s.metrics,
		ReverseDNS: reverse,
		Connection: func(v *tenant.View, c *tenant.Connection) (upstream.Upstream, error) {
			return s.connection(dialer, v, c)
		},
	}
	if s.c.Capture {
		o.Mailbox = mailbox.New(filepath.Join(s.c.Data, "captured"))
	}
	if p := s.c.Upstream.Platform; p != nil {
		password, err := secret(p.Password)
		if err != nil {
			return fmt.Errorf("upstream.platform.password: %w", err)
		}
		ca, err := certificates(p.CAFile)
		if err != nil {
			return fmt.Errorf("upstream.platform.ca_file: %w", err)
		}
		host, err := smarthost.New(smarthost.Config{
			Host: p.Host, Port: p.Port, Security: p.Security, Auth: p.Auth, Username: p.Username, Password: fixed(password),
			CA: ca, AllowInsecure: p.AllowInsecure, Hello: s.c.Hostname, Dialer: dialer, Origin: egress.FromAdmin,
		})
		if err != nil {
			return fmt.Errorf("upstream.platform: %w", err)
		}
		s.close = append(s.close, host.Close)
		s.sessions["platform"] = host.Sessions
		o.Platform, o.PlatformSigns = host, p.Signs == "provider"
	}
	s.planner = relay.NewPlanner(s.directory, s.checker, s.book, s.limits, o)
	return nil
}

// connection builds the upstream of a tenant's connection.
func (s *server) connection(d *egress.Dialer, v *tenant.View, c *tenant.Connection) (upstream.Upstream, error) {
	if c.SMTP == nil {
		return nil, fmt.Errorf("connection %s has no smtp settings", c.Name)
	}
	origin := egress.FromTenant
	if c.Trusted {
		origin = egress.FromAdmin
	}
	t, name := v.Tenant.ID, c.Name
	var password func(context.Context) (string, error)
	if c.SMTP.Username != "" {
		password = func(ctx context.Context) (string, error) { return s.directory.Password(ctx, t, name) }
	}
	return smarthost.New(smarthost.Config{
		Host: c.SMTP.Host, Port: c.SMTP.Port, Security: c.SMTP.Security, Auth: c.SMTP.Auth, Username: c.SMTP.Username, Password: password,
		CA: c.SMTP.CAFile, AllowInsecure: c.SMTP.AllowInsecure, Hello: s.c.Hostname, Dialer: d, Origin: origin,
	})
}

// certificates reads a PEM file; no name gives none.
func certificates(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	b, err := os.ReadFile(file)
	return string(b), err
}

// secret reads a secret of the configuration: file:PATH, env:NAME or itself.
func secret(s string) (string, error) {
	if name, ok := strings.CutPrefix(s, "env:"); ok {
		v, found := os.LookupEnv(name)
		if !found {
			return "", fmt.Errorf("the environment variable %s is not set", name)
		}
		return v, nil
	}
	if path, ok := strings.CutPrefix(s, "file:"); ok {
		b, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("reading a secret: %w", err)
		}
		return strings.TrimRight(string(b), "\r\n"), nil
	}
	return s, nil
}

func fixed(password string) func(context.Context) (string, error) {
	if password == "" {
		return nil
	}
	return func(context.Context) (string, error) { return password, nil }
}
