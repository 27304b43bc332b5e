package config

import (
	"path/filepath"
	"strings"
	"time"
)

func (c *Config) defaults(dir string) {
	text := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	span := func(p *Duration, v time.Duration) {
		if *p == 0 {
			*p = Duration(v)
		}
	}
	number := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	text(&c.PlatformDomain, strings.TrimPrefix(c.Hostname, "relay."))
	text(&c.SendingDomain, "send."+c.PlatformDomain)
	text(&c.Data, "data")
	c.Data = under(dir, c.Data)
	text(&c.Admin.KeyFile, filepath.Join(c.Data, "admin.key"))
	text(&c.Secrets.KeyFile, filepath.Join(c.Data, "master.key"))
	for _, p := range []*string{&c.Admin.KeyFile, &c.Secrets.KeyFile, &c.TLS.Cert, &c.TLS.Key, &c.Policy.Path, &c.Policy.Shadow} {
		*p = under(dir, *p)
	}
	span(&c.Resolver.Timeout, 5*time.Second)
	text(&c.Store.Engine, "badger")
	if c.Policy.Watch == nil {
		watch := true
		c.Policy.Watch = &watch
	}
	for name, s := range c.Policy.Services {
		s.Credentials.Bearer.Token = secretUnder(dir, s.Credentials.Bearer.Token)
		s.Credentials.Bearer.TokenPath = under(dir, s.Credentials.Bearer.TokenPath)
		s.TLS.CACert = under(dir, s.TLS.CACert)
		c.Policy.Services[name] = s
	}
	for id, k := range c.Policy.Keys {
		k.Key = secretUnder(dir, k.Key)
		c.Policy.Keys[id] = k
	}
	text(&c.Platform.Name, c.PlatformDomain)
	text(&c.Platform.Notify, "postmaster@"+c.PlatformDomain)
	text(&c.Platform.ReturnPath, "bounce")
	for i := range c.Platform.DKIM {
		c.Platform.DKIM[i].Key = secretUnder(dir, c.Platform.DKIM[i].Key)
	}
	if c.Submission.MaxSize == 0 {
		c.Submission.MaxSize = 35 << 20
	}
	number(&c.Submission.MaxRecipients, 1000)
	number(&c.Submission.MaxSessions, 5000)
	number(&c.Submission.MaxSessionsPerIP, 1000)
	span(&c.Delivery.MaxAge, 96*time.Hour)
	span(&c.Delivery.FailoverAfter, 45*time.Second)
	number(&c.MX.Port, 25)
	text(&c.Inbound.Host, c.Hostname)
	if p := c.Upstream.Platform; p != nil {
		p.Password = secretUnder(dir, p.Password)
		p.CAFile = under(dir, p.CAFile)
		text(&p.Security, "starttls")
		number(&p.Port, map[string]int{"tls": 465, "starttls": 587, "none": 25}[p.Security])
	}
	span(&c.Retention.Bodies, 7*24*time.Hour)
	span(&c.Retention.Events, 90*24*time.Hour)
	if c.Retention.PolicyInputs == nil {
		week := Duration(7 * 24 * time.Hour)
		c.Retention.PolicyInputs = &week
	}
	if c.Retention.PolicyInputsSize == 0 {
		c.Retention.PolicyInputsSize = 1 << 30
	}
	text(&c.Log.Level, "info")
	text(&c.Log.Format, "text")
	if c.PublicURL == "" && len(c.Listen.HTTP) > 0 {
		c.PublicURL = "http://" + c.Listen.HTTP[0]
	}
	c.PublicURL = strings.TrimSuffix(c.PublicURL, "/")
	if len(c.Listen.Metrics) == 0 {
		c.Listen.Metrics = c.Listen.HTTP
	}
}

// under makes a relative path absolute, seen from the configuration's folder.
func under(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// secretUnder does the same for a secret given as file:PATH.
func secretUnder(dir, secret string) string {
	if path, ok := strings.CutPrefix(secret, "file:"); ok {
		return "file:" + under(dir, path)
	}
	return secret
}
