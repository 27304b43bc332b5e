package relay

import (
	"behalf/policy"
)

// A draft that is tried beside the policies in force has facts gathered that
// nobody else reads. What goes wrong with those must not concern the mail.

// spare is err, unless it kept from us a fact that the draft alone reads: then the
// draft is not tried on this transaction any more, for it would be told less than
// it is in force.
func (t *transaction) spare(err error, reads func(policy.Needs) bool) error {
	if err == nil || reads(t.policy.Own()) {
		return err
	}
	t.in.o.Log.Warn("a draft of policies is not tried on a message, because what it wants to know could not be found out", "tenant", t.view.Tenant.Name, "err", err)
	t.policy = t.policy.Alone()
	return nil
}

// What the facts are read for.

func readsUsage(n policy.Needs) bool      { return n.Usage || n.CredentialUsage }
func readsFirst(n policy.Needs) bool      { return n.FirstTime || readsUsage(n) || n.Unusual }
func readsSuppressed(n policy.Needs) bool { return n.Suppressed }
func readsParts(n policy.Needs) bool      { return n.Attachments || n.URLHosts }
func readsBulk(n policy.Needs) bool       { return n.Bulk }
func readsUnusual(n policy.Needs) bool    { return n.Unusual }
