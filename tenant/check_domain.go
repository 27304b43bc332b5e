package tenant

import (
	"strings"

	"golang.org/x/net/publicsuffix"

	"behalf/mail"
)

// defaultReturnPath is the label of the return-path host.
const defaultReturnPath = "bounce"

func (d *Domain) clear() {
	d.State = ""
	for i := range d.DKIM {
		d.DKIM[i].Public = ""
	}
}

func (d *Domain) check(f *faults) {
	if d.Tenant != PlatformName {
		checkOwner(f, d.Tenant)
	}
	d.Name = checkDomainName(f, "name", d.Name)
	if suffix, _ := publicsuffix.PublicSuffix(d.Name); suffix == d.Name {
		f.add("name", "%s is a public suffix; nobody owns it alone", d.Name)
	}
	setDefault(&d.ReturnPath, defaultReturnPath)
	d.ReturnPath = strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(d.ReturnPath, "."), "."+d.Name))
	if _, err := mail.ParseDomain(d.ReturnPath + "." + d.Name); err != nil || d.ReturnPath == "" || strings.HasPrefix(d.ReturnPath, "[") {
		f.add("return_path", "%q is not a host below %s", clip(d.ReturnPath), d.Name)
	}
	if len(d.DKIM) > maxKeys {
		f.add("dkim", "more than %d keys", maxKeys)
	}
	seen := map[string]bool{}
	for i := range d.DKIM {
		k := &d.DKIM[i]
		k.Selector = strings.ToLower(k.Selector)
		if _, err := mail.ParseDomain(k.Selector); err != nil || strings.HasPrefix(k.Selector, "[") {
			f.add("dkim.selector", "%q is not a selector such as b1", clip(k.Selector))
		}
		if seen[k.Selector] {
			f.add("dkim.selector", "%q stands there twice", k.Selector)
		}
		seen[k.Selector] = true
		checkSecret(f, "dkim.key", k.Key)
		setDefault(&k.Algorithm, AlgorithmRSA)
		oneOf(f, "dkim.algorithm", k.Algorithm, AlgorithmRSA, AlgorithmEd25519)
	}
}

// within reports whether name is domain or below it.
func within(name, domain string) bool {
	return domain != "" && (name == domain || strings.HasSuffix(name, "."+domain))
}

// parents calls fn for name and each domain above it but the last label.
func parents(name string, fn func(string) error) error {
	for strings.Contains(name, ".") {
		if err := fn(name); err != nil {
			return err
		}
		_, name, _ = strings.Cut(name, ".")
	}
	return nil
}
