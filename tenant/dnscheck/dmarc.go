package dnscheck

import (
	"context"
	"fmt"
	"strings"
	"time"

	"behalf/tenant"
)

// maxWalk is the most questions of a tree walk (RFC 9989, section 4.10).
const maxWalk = 8

// DMARC finds the policy that governs a From domain, by the tree walk of
// RFC 9989, section 4.10, with psd, sp and np applied. Without any record the
// policy is absent and Org empty. The tag t=y (testing) is not heeded, because
// older receivers do not know it. The error is temporary; an earlier answer
// outlives it for a day.
func (c *Checker) DMARC(ctx context.Context, fromDomain string) (tenant.DMARC, error) {
	name := strings.ToLower(strings.TrimSuffix(fromDomain, "."))
	if d, err, known := c.dmarc.known(name); known {
		return d, err
	}
	return c.policyOf(ctx, name)
}

func (c *Checker) policyOf(ctx context.Context, name string) (tenant.DMARC, error) {
	return c.dmarc.get(ctx, name, func(ctx context.Context) (tenant.DMARC, time.Duration, error) { return c.lookDMARC(ctx, name) })
}

// OrgDomain is the organizational domain of name: name itself when no DMARC
// record stands at it or above.
func (c *Checker) OrgDomain(ctx context.Context, name string) (string, error) {
	d, err := c.DMARC(ctx, name)
	if err != nil {
		return "", err
	}
	if d.Org == "" {
		return strings.ToLower(strings.TrimSuffix(name, ".")), nil
	}
	return d.Org, nil
}

// standing is a record and where it stands.
type standing struct {
	domain string
	record
}

func (c *Checker) lookDMARC(ctx context.Context, name string) (tenant.DMARC, time.Duration, error) {
	if name == "" || name[0] == '[' {
		return tenant.DMARC{Policy: tenant.PolicyAbsent, ADKIM: tenant.Relaxed, ASPF: tenant.Relaxed}, time.Hour, nil // an address literal
	}
	found, life, err := c.walk(ctx, name)
	if err != nil {
		return tenant.DMARC{}, 0, err
	}
	life = clamp(life, 30*time.Second, 15*time.Minute)
	if len(found) == 0 {
		return tenant.DMARC{Policy: tenant.PolicyAbsent, ADKIM: tenant.Relaxed, ASPF: tenant.Relaxed}, life, nil
	}
	org := orgOf(name, found)
	s, ok := governing(name, org, found)
	if !ok {
		return tenant.DMARC{Org: org, Policy: tenant.PolicyAbsent, ADKIM: tenant.Relaxed, ASPF: tenant.Relaxed}, life, nil
	}
	d := tenant.DMARC{Domain: s.domain, Org: org, Policy: s.policy, ADKIM: s.adkim, ASPF: s.aspf, Record: s.text}
	if s.domain != name {
		exists := true
		if s.none != "" {
			_, ans, err := c.dns.TXT(ctx, name)
			if err != nil {
				return tenant.DMARC{}, 0, fmt.Errorf("looking up %s: %w", name, err)
			}
			exists = !ans.NXDomain
		}
		d.Policy = s.forBelow(exists)
	}
	return d, life, nil
}

// walk asks for records at name and above it, at most eight times, and ends at
// one that says psd=y or psd=n.
func (c *Checker) walk(ctx context.Context, name string) (found []standing, life time.Duration, err error) {
	life = time.Hour
	for _, target := range walkTargets(name) {
		txt, ans, err := c.dns.TXT(ctx, "_dmarc."+target)
		if err != nil {
			return nil, 0, fmt.Errorf("looking up the DMARC policy of %s: %w", name, err)
		}
		life = min(life, ans.TTL)
		r, ok := only(txt)
		if !ok {
			continue
		}
		found = append(found, standing{target, r})
		if r.psd != "u" {
			break
		}
	}
	return found, life, nil
}

// only gives the record of an answer; several are as none.
func only(txt []string) (r record, ok bool) {
	for _, t := range txt {
		if n, v := tag(strings.SplitN(t, ";", 2)[0]); n != "v" || v != "DMARC1" {
			continue
		}
		if ok {
			return record{}, false
		}
		if r, ok = parseDMARC(t); !ok {
			return record{}, false
		}
	}
	return r, ok
}

// walkTargets are the domains to ask at: name, then what is above it, where a
// name of more than seven labels goes on with its last seven.
func walkTargets(name string) []string {
	targets := []string{name}
	labels := strings.Split(name, ".")
	next := labels[1:]
	if len(labels) > maxWalk-1 {
		next = labels[len(labels)-(maxWalk-1):]
	}
	for ; len(next) > 0; next = next[1:] {
		targets = append(targets, strings.Join(next, "."))
	}
	return targets
}

// orgOf is the organizational domain (section 4.10.2).
func orgOf(name string, found []standing) string {
	last := found[len(found)-1] // the one with the fewest labels, or with psd
	if last.psd == "y" && last.domain != name {
		rest := strings.TrimSuffix(name, "."+last.domain)
		return rest[strings.LastIndexByte(rest, '.')+1:] + "." + last.domain
	}
	return last.domain
}

// governing is the record that applies to name: its own, else that of the
// organizational domain, else that of the public suffix above.
func governing(name, org string, found []standing) (standing, bool) {
	for _, want := range []string{name, org} {
		for _, s := range found {
			if s.domain == want {
				return s, true
			}
		}
	}
	if last := found[len(found)-1]; last.psd == "y" {
		return last, true
	}
	return standing{}, false
}
