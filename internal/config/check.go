package config

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// check refuses combinations that cannot work.
func (c *Config) check(s *source) error {
	bad := func(path, format string, args ...any) error {
		return fmt.Errorf("%s: %s: %s", s.where(strings.Split(path, ".")), path, fmt.Sprintf(format, args...))
	}
	if c.Hostname == "" {
		return fmt.Errorf("%s: hostname is missing: give the name of this relay", s.name)
	}
	if c.SendingDomain == c.PlatformDomain {
		return bad("sending_domain", "must not be the platform_domain itself; leave it out for send.%s", c.PlatformDomain)
	}
	if n := len(c.Listen.Submission) + len(c.Listen.Submissions) + len(c.Listen.HTTP); n == 0 {
		return bad("listen", "no door is open; give at least one of submission, submissions, http")
	}
	if path, addr, other := c.Listen.clash(); path != "" {
		return bad(path, "%s is taken by %s", addr, other)
	}
	for path, file := range map[string]string{"tls.cert": c.TLS.Cert, "tls.key": c.TLS.Key} {
		if file == "" {
			continue
		}
		if _, err := os.Stat(file); err != nil {
			return bad(path, "%v", err)
		}
	}
	if c.Policy.Path != "" {
		if st, err := os.Stat(c.Policy.Path); err == nil && !st.IsDir() {
			return bad("policy.path", "%s is not a folder", c.Policy.Path)
		}
	}
	if err := c.Policy.check(bad); err != nil {
		return err
	}
	if c.Policy.Gate && c.Retention.PolicyInputs.D() == 0 {
		return bad("policy.gate", "a changed set is accepted once it was replayed, and with retention.policy_inputs: 0s nothing is recorded to replay; record something, or leave out the gate")
	}
	if c.Policy.Shadow != "" && c.Policy.Shadow == c.Policy.Path {
		return bad("policy.shadow", "must not be policy.path; give the draft a folder of its own")
	}
	if p := c.Upstream.Platform; p != nil && p.Security == "none" && p.Password != "" && !p.AllowInsecure && !isLoopback(p.Host) {
		return bad("upstream.platform.security", "a password never travels without TLS; use tls or starttls, or set allow_insecure: true")
	}
	if c.Retention.Events < c.Retention.Bodies {
		return bad("retention.events", "must not be shorter than retention.bodies (%s)", c.Retention.Bodies.D())
	}
	if c.Delivery.MaxAge.D() < c.Delivery.FailoverAfter.D() {
		return bad("delivery.max_age", "must be longer than delivery.failover_after")
	}
	return nil
}

// check refuses bundles that cannot be fetched or verified.
func (p *Policy) check(bad func(path, format string, args ...any) error) error {
	if len(p.Bundles) > 0 && p.Path != "" {
		return bad("policy.path", "policies come from a folder or from bundles; leave out policy.path or policy.bundles")
	}
	for name, b := range p.Bundles {
		at := "policy.bundles." + name
		s, ok := p.Services[b.Service]
		switch _, known := p.Keys[b.Signing.KeyID]; {
		case !ok:
			return bad(at+".service", "there is no service %q in policy.services", b.Service)
		case b.Signing.KeyID != "" && !known:
			return bad(at+".signing.keyid", "there is no key %q in policy.keys", b.Signing.KeyID)
		case (b.Signing.Scope != "" || len(b.Signing.Exclude) > 0) && len(p.Keys) == 0:
			return bad(at+".signing", "nothing can be verified without policy.keys")
		case b.Polling.MaxDelay > 0 && b.Polling.MinDelay > b.Polling.MaxDelay:
			return bad(at+".polling.min_delay_seconds", "must not be more than max_delay_seconds")
		case s.Credentials.Bearer.Token != "" && s.Credentials.Bearer.TokenPath != "":
			return bad("policy.services."+b.Service+".credentials.bearer", "give token or token_path, not both")
		}
	}
	return nil
}

func isLoopback(host string) bool {
	return host == "localhost" || strings.HasPrefix(host, "127.") || host == "::1"
}

// clash finds two doors at one address. Metrics may share the door of http.
func (l *Listen) clash() (path, addr, other string) {
	doors := []struct {
		path  string
		addrs Addrs
	}{{"listen.submission", l.Submission}, {"listen.submissions", l.Submissions}, {"listen.http", l.HTTP}, {"listen.metrics", l.Metrics}}
	if slices.Equal(l.HTTP, l.Metrics) {
		doors = doors[:3]
	}
	taken := map[string]string{}
	for _, d := range doors {
		for _, a := range d.addrs {
			if taken[a] != "" && !strings.HasSuffix(a, ":0") {
				return d.path, a, taken[a]
			}
			taken[a] = d.path
		}
	}
	return "", "", ""
}
