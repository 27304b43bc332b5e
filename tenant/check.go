package tenant

import (
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"behalf/mail"
)

// PlatformName stands for tenant 0, the platform itself, in usernames and
// wherever a tenant is named; no tenant can have it.
const PlatformName = "platform"

// Bounds of what one resource may hold.
const (
	maxLabels   = 64
	maxLabel    = 256
	maxTenants  = 4000 // named by one platform credential; more want "*"
	maxSenders  = 1000
	maxNetworks = 256
	maxKeys     = 8
	maxRoute    = 16
	maxText     = 200
	minSecret   = 8
	maxSecret   = 256
)

// checkName demands a name that can stand in usernames, host names and local
// parts.
func checkName(f *faults, field, name string) {
	ok := name != "" && len(name) <= 63 && name[0] != '-' && name[len(name)-1] != '-'
	for i := range len(name) {
		c := name[i]
		ok = ok && ('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-')
	}
	if !ok {
		f.add(field, "%q is not a name; use 1 to 63 of a-z, 0-9 and -, not beginning or ending with -", clip(name))
	}
}

// clip shortens what a client gave for an error message.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

func checkText(f *faults, field, s string) {
	if len(s) > maxText || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		f.add(field, "must be at most %d octets of UTF-8 without control characters", maxText)
	}
}

func checkAddress(f *faults, field, s string) string {
	if s == "" {
		return ""
	}
	a, err := mail.ParseAddress(s)
	if err != nil {
		f.add(field, "%v", err)
		return s
	}
	return a.String()
}

// checkPattern reads an address or *@domain and gives its form for comparing.
func checkPattern(f *faults, field, s string) string {
	if domain, ok := strings.CutPrefix(s, "*@"); ok {
		d := checkDomainName(f, field, domain)
		return "*@" + d
	}
	a, err := mail.ParseAddress(s)
	switch {
	case err != nil:
		f.add(field, "%v; want an address or *@domain", err)
		return s
	case strings.HasPrefix(a.Domain, "["):
		f.add(field, "%q has an address literal; want a domain name", clip(s))
	}
	return a.Key()
}

func checkDomainName(f *faults, field, s string) string {
	d, err := mail.ParseDomain(strings.TrimSuffix(s, "."))
	if err != nil {
		f.add(field, "%v", err)
		return s
	}
	if strings.HasPrefix(d, "[") || !strings.Contains(d, ".") {
		f.add(field, "%q is not a domain name with at least two labels", clip(s))
	}
	return d
}

func (t *Tenant) clear() { t.ID = 0 }

func (t *Tenant) check(f *faults) {
	checkName(f, "name", t.Name)
	if t.Name == PlatformName {
		f.add("name", "%q is the platform itself; choose another", t.Name)
	}
	if t.Tenant != "" && t.Tenant != t.Name {
		f.add("tenant", "a tenant belongs to no other; leave it out")
	}
	t.Tenant = ""
	checkText(f, "display_name", t.DisplayName)
	if len(t.Labels) > maxLabels {
		f.add("labels", "more than %d", maxLabels)
	}
	for k, v := range t.Labels {
		if k == "" || len(k) > maxLabel || len(v) > maxLabel || !utf8.ValidString(k+v) {
			f.add("labels", "%q: keys and values are UTF-8 of at most %d octets", clip(k), maxLabel)
		}
	}
	known := []mail.Method{mail.MethodDomain, mail.MethodConnection, mail.MethodAddress, mail.MethodName}
	for i, m := range t.Methods {
		if !slices.Contains(known, m) {
			f.add("methods", "%q is not known; want domain, connection, address or name", clip(string(m)))
		}
		if slices.Contains(t.Methods[:i], m) {
			f.add("methods", "%q stands there twice", m)
		}
	}
	t.Notify = checkAddress(f, "notify", t.Notify)
	t.checkRoute(f)
	if t.AddressPerDay < 0 {
		f.add("address_per_day", "must not be negative")
	}
	if t.Suspended != nil {
		checkText(f, "suspended.reason", t.Suspended.Reason)
		if t.Suspended.Reason == "" {
			f.add("suspended.reason", "say why; the tenant is told")
		}
		t.Suspended.Until = whole(t.Suspended.Until)
	}
}

func (t *Tenant) checkRoute(f *faults) {
	if len(t.Route) > maxRoute {
		f.add("route", "more than %d ways", maxRoute)
	}
	for i, w := range t.Route {
		switch {
		case (w.Connection == "") == (w.Upstream == ""):
			f.add("route", "each way has either connection or upstream")
		case w.Connection != "":
			checkName(f, "route.connection", w.Connection)
		case w.Upstream != mail.UpstreamMX && w.Upstream != mail.UpstreamPlatform && w.Upstream != mail.UpstreamMailbox:
			f.add("route.upstream", "%q is not known; want mx, platform or mailbox", clip(string(w.Upstream)))
		}
		if slices.Contains(t.Route[:i], w) {
			f.add("route", "%q stands there twice", w.ID())
		}
	}
}

// whole is t in UTC to the second, so that it reads back as it was written.
func whole(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Second)
}

func (c *Credential) clear() { c.LastUsed = time.Time{} }

// Scopes of a credential.
const (
	ScopeTenant   = "tenant"
	ScopePlatform = "platform"
)

func (c *Credential) check(f *faults) {
	checkName(f, "name", c.Name)
	switch c.Scope {
	case "", ScopeTenant:
		c.Scope = ScopeTenant
		checkOwner(f, c.Tenant)
		if len(c.Tenants) != 0 {
			f.add("tenants", "only a credential of scope platform has them")
		}
		c.Username = c.Tenant + "/" + c.Name
	case ScopePlatform:
		if c.Tenant != "" && c.Tenant != PlatformName {
			f.add("tenant", "a credential of scope platform belongs to no tenant; list them under tenants")
		}
		c.Tenant = ""
		c.checkTenants(f)
		c.Username = PlatformName + "/" + c.Name
	default:
		f.add("scope", "%q is not known; want tenant or platform", clip(c.Scope))
	}
	checkSecret(f, "secret", c.Secret)
	if s := c.Secret; s != "" && (len(s) < minSecret || len(s) > maxSecret || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })) {
		f.add("secret", "must be %d to %d printable ASCII characters without spaces; leave it out to have one made", minSecret, maxSecret)
	}
	if len(c.Networks) > maxNetworks {
		f.add("networks", "more than %d", maxNetworks)
	}
	for i, n := range c.Networks {
		p, err := parseNetwork(n)
		if err != nil {
			f.add("networks", "%q is not an address or network such as 10.0.0.0/8", clip(n))
			continue
		}
		c.Networks[i] = p.String()
	}
	c.Expires = whole(c.Expires)
	c.Notify = checkAddress(f, "notify", c.Notify)
}

func (c *Credential) checkTenants(f *faults) {
	if len(c.Tenants) == 0 {
		f.add("tenants", `list the tenants it may act for, or "*" for all`)
	}
	if len(c.Tenants) > maxTenants {
		f.add("tenants", `more than %d; use "*"`, maxTenants)
	}
	for _, name := range c.Tenants {
		if name == "*" && len(c.Tenants) == 1 {
			return
		}
		checkName(f, "tenants", name)
		if name == PlatformName {
			f.add("tenants", "the platform itself is no tenant")
		}
	}
	slices.Sort(c.Tenants)
	c.Tenants = slices.Compact(c.Tenants)
}

func parseNetwork(s string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(s); err == nil {
		ip = ip.Unmap().WithZone("")
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

// checkOwner demands that a tenant is named.
func checkOwner(f *faults, name string) {
	if name == "" {
		f.add("tenant", "say whose it is")
		return
	}
	checkName(f, "tenant", name)
	if name == PlatformName {
		f.add("tenant", "the platform itself owns none")
	}
}

// checkSecret refuses references: the server must not read its own files and
// environment for whoever writes a resource.
func checkSecret(f *faults, field, s string) {
	if strings.HasPrefix(s, "file:") || strings.HasPrefix(s, "env:") {
		f.add(field, "give the value itself; file: and env: are resolved by the behalf command, not by the server")
	}
}

func (i *Identity) clear() {}

func (i *Identity) check(f *faults) {
	checkOwner(f, i.Tenant)
	i.Address = checkPattern(f, "address", i.Address)
	checkText(f, "display_name", i.DisplayName)
}
