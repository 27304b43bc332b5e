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
