package replay

import (
	"slices"

	"behalf/policy"
)

// fact is something that is found out only for sets that read it.
type fact struct {
	name   string
	stages []string // that can read it; nil: all
	needed func(policy.Needs) bool
}

func facts() []fact {
	recipient, message := []string{policy.PackageRecipient}, []string{policy.PackageMessage}
	return []fact{
		{"usage", nil, func(n policy.Needs) bool { return n.Usage || n.CredentialUsage }},
		// At the sender stage envelope.new_recipients is always 0.
		{"recipient.first_time, envelope.new_recipients", slices.Concat(recipient, message), func(n policy.Needs) bool { return n.FirstTime }},
		{"recipient.suppressed", recipient, func(n policy.Needs) bool { return n.Suppressed }},
		{"message.headers", message, func(n policy.Needs) bool { return n.Headers }},
		{"message.attachments", message, func(n policy.Needs) bool { return n.Attachments }},
		{"message.url_hosts", message, func(n policy.Needs) bool { return n.URLHosts }},
		{"candidates", message, func(n policy.Needs) bool { return n.Candidates }},
		{"authentication.reverse_dns", message, func(n policy.Needs) bool { return n.ReverseDNS }},
		{"bulk", message, func(n policy.Needs) bool { return n.Bulk }},
		{"unusual", message, func(n policy.Needs) bool { return n.Unusual }},
	}
}

// gathered is what the relay found out for a set: some facts come with others.
func gathered(n policy.Needs) policy.Needs {
	n.FirstTime = n.FirstTime || n.Usage || n.CredentialUsage || n.Unusual
	n.Attachments = n.Attachments || n.URLHosts
	return n
}

// missing names the facts of a stage that want reads and had lacks.
func missing(pkg string, want, had policy.Needs) []string {
	if want == had {
		return nil
	}
	had = gathered(had)
	var names []string
	for _, f := range facts() {
		if f.needed(want) && !f.needed(had) && (f.stages == nil || slices.Contains(f.stages, pkg)) {
			names = append(names, f.name)
		}
	}
	return names
}
