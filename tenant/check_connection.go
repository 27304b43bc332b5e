package tenant

import (
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"

	"behalf/mail"
)

func (c *Connection) clear() { c.Trusted = false }

func (c *Connection) check(f *faults) {
	checkOwner(f, c.Tenant)
	checkName(f, "name", c.Name)
	if c.Provider != "smtp" {
		f.add("provider", "%q is not known; want smtp", clip(c.Provider))
	}
	if c.SMTP == nil {
		f.add("smtp", "say where the account is: host, port, username, password")
	} else {
		c.SMTP.check(f)
	}
	setDefault(&c.Envelope, "account")
	oneOf(f, "envelope", c.Envelope, "account", "any")
	if c.Signs != "" {
		oneOf(f, "signs", c.Signs, "provider")
	}
	setDefault(&c.Verp, "recipient")
	oneOf(f, "verp", c.Verp, "recipient", "message")
	c.checkSenders(f)
}

// checkSenders defaults what the account may send as to its own address.
func (c *Connection) checkSenders(f *faults) {
	if len(c.Senders) > maxSenders {
		f.add("senders", "more than %d", maxSenders)
	}
	for i, s := range c.Senders {
		c.Senders[i] = checkPattern(f, "senders", s)
	}
	if c.SMTP == nil {
		return
	}
	if own, err := mail.ParseAddress(c.SMTP.Username); err == nil && len(c.Senders) == 0 {
		c.Senders = []string{own.Key()}
	}
	if len(c.Senders) == 0 {
		f.add("senders", "list what the account may send as; its username is not an address")
	}
	if _, ok := c.Account(); !ok && c.Envelope == "account" && len(c.Senders) > 0 {
		f.add("senders", "with envelope: account the first one must be the account's address, because its username is not an address")
	}
}

// Account is the account's own address: its username, else the first of its
// senders that is an address.
func (c *Connection) Account() (mail.Address, bool) {
	if c.SMTP != nil {
		if a, err := mail.ParseAddress(c.SMTP.Username); err == nil {
			return a, true
		}
	}
	for _, s := range c.Senders {
		if strings.HasPrefix(s, "*@") {
			continue
		}
		if a, err := mail.ParseAddress(s); err == nil {
			return a, true
		}
	}
	return mail.Address{}, false
}

func (s *SMTP) check(f *faults) {
	s.Host = checkHost(f, "smtp.host", s.Host)
	setDefault(&s.Security, "starttls")
	oneOf(f, "smtp.security", s.Security, "tls", "starttls", "none")
	if s.Port == 0 {
		s.Port = map[string]int{"tls": 465, "none": 25}[s.Security]
		if s.Port == 0 {
			s.Port = 587
		}
	}
	if s.Port < 1 || s.Port > 65535 {
		f.add("smtp.port", "must be 1 to 65535")
	}
	if s.Auth != "" {
		oneOf(f, "smtp.auth", s.Auth, "plain", "login", "cram-md5", "scram-sha-256")
	}
	if len(s.Username) > 256 || hasControl(s.Username) {
		f.add("smtp.username", "must be at most 256 octets without control characters")
	}
	checkSecret(f, "smtp.password", s.Password)
	if len(s.Password) > 1024 || strings.ContainsAny(s.Password, "\x00\r\n") {
		f.add("smtp.password", "must be at most 1024 octets in one line")
	}
	if s.Password != "" && s.Username == "" {
		f.add("smtp.username", "a password needs one")
	}
	if s.Security == "none" && s.Username != "" && !s.AllowInsecure && !loopback(s.Host) {
		f.add("smtp.security", "none would show the password to the network; use starttls or tls, or set allow_insecure: true")
	}
	checkSecret(f, "smtp.ca_file", s.CAFile)
	if s.CAFile != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(s.CAFile)) {
		f.add("smtp.ca_file", "holds no certificate in PEM; the behalf command reads the file, the API takes its text")
	}
}

// checkHost takes a host name, also one of a single label, or an address.
func checkHost(f *faults, field, s string) string {
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return ip.String()
	}
	d, err := mail.ParseDomain(strings.TrimSuffix(s, "."))
	if err != nil || strings.HasPrefix(d, "[") {
		f.add(field, "%q is neither a host name nor an address", clip(s))
		return s
	}
	return d
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func setDefault(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

func oneOf(f *faults, field, got string, want ...string) {
	if !slices.Contains(want, got) {
		f.add(field, "%q is not known; want %s", clip(got), strings.Join(want, ", "))
	}
}
