package journal

import (
	"time"

	"behalf/mail"
	"behalf/policy"
)

// The shapes of what is recorded, field by field. A field that is missing here
// is missing in a replay; TestEveryFieldComesBack finds it.

// begun is what the questions of a transaction have in common from its MAIL on,
// and counts what changes. What the head of an entry says is left out of both,
// and usage.
func begun(c *cborItems, in *policy.SenderInput) {
	c.fields(7)
	number(c, &in.Time)
	text(c, &in.Stream)
	text(c, &in.Envelope.From)
	text(c, &in.Envelope.FromDomain)
	c.bool(&in.Envelope.UTF8)
	c.bool(&in.Envelope.EightBit)
	c.bool(&in.Envelope.RequireTLS)
}

func counts(c *cborItems, e *policy.Envelope) {
	c.fields(3)
	number(c, &e.Size)
	number(c, &e.Recipients)
	number(c, &e.NewRecipients)
}

func recipient(c *cborItems, r *policy.Recipient) {
	c.fields(6)
	text(c, &r.Address)
	text(c, &r.Domain)
	text(c, &r.Site)
	text(c, &r.Family)
	c.bool(&r.FirstTime)
	c.bool(&r.Suppressed)
}

func message(c *cborItems, in *policy.MessageInput) {
	c.fields(6)
	identity(c, &in.Identity)
	content(c, &in.Message)
	list(c, &in.Candidates, candidate)
	authentication(c, &in.Authentication)
	list(c, &in.Bulk, bulk)
	unusual(c, &in.Unusual)
}

func session(c *cborItems, s *policy.Session) {
	c.fields(4)
	text(c, &s.Addr)
	text(c, &s.Helo)
	text(c, &s.TLS)
	text(c, &s.Door)
}

func tenant(c *cborItems, t *policy.Tenant) {
	c.fields(6)
	number(c, &t.ID)
	text(c, &t.Name)
	c.labels(&t.Labels)
	list(c, &t.Methods, text)
	c.bool(&t.AllowFromChange)
	pointer(c, &t.Suspended, suspension)
}

func suspension(c *cborItems, s *policy.Suspension) {
	c.fields(2)
	text(c, &s.Reason)
	text(c, &s.Until)
}

func credential(c *cborItems, v *policy.Credential) {
	c.fields(2)
	text(c, &v.Username)
	text(c, &v.Scope)
}

func usage(c *cborItems, u *policy.Usage) {
	c.fields(4)
	window(c, &u.Hour)
	window(c, &u.Day)
	window(c, &u.Credential.Hour)
	window(c, &u.Credential.Day)
}

func window(c *cborItems, w *policy.Window) {
	c.fields(5)
	number(c, &w.Messages)
	number(c, &w.Recipients)
	number(c, &w.NewRecipients)
	number(c, &w.Bounces)
	number(c, &w.Complaints)
}

func identity(c *cborItems, i *policy.Identity) {
	c.fields(4)
	text(c, &i.Address)
	c.bool(&i.Verified)
	c.bool(&i.Foreign)
	list(c, &i.Methods, text)
}

func content(c *cborItems, m *policy.Message) {
	c.fields(11)
	list(c, &m.Headers, headerField)
	text(c, &m.From)
	text(c, &m.FromDomain)
	text(c, &m.FromName)
	text(c, &m.Subject)
	text(c, &m.MessageID)
	number(c, &m.Size)
	text(c, &m.Tag)
	c.bool(&m.OneClick)
	list(c, &m.Attachments, attachment)
	list(c, &m.URLHosts, text)
}

func headerField(c *cborItems, f *[2]string) {
	c.fields(2)
	text(c, &f[0])
	text(c, &f[1])
}

func attachment(c *cborItems, a *policy.Attachment) {
	c.fields(3)
	text(c, &a.Filename)
	text(c, &a.ContentType)
	number(c, &a.Size)
}

func candidate(c *cborItems, v *policy.Candidate) {
	c.fields(4)
	text(c, &v.Upstream)
	text(c, &v.Method)
	c.bool(&v.Holds)
	text(c, &v.Why)
}

func authentication(c *cborItems, a *policy.Authentication) {
	c.fields(6)
	text(c, &a.Method)
	text(c, &a.FromDomain)
	c.bool(&a.SPF)
	c.bool(&a.DKIM)
	text(c, &a.DMARCPolicy)
	c.bool(&a.ReverseDNS)
}

func bulk(c *cborItems, b *policy.Bulk) {
	c.fields(2)
	text(c, &b.Family)
	number(c, &b.Recipients)
}

func unusual(c *cborItems, u *policy.Unusual) {
	c.fields(6)
	number(c, &u.Score)
	list(c, &u.Reasons, points)
	number(c, &u.NewRecipients)
	number(c, &u.Held)
	number(c, &u.HeldOctets)
	number(c, &u.TenantHeldOctets)
}

func points(c *cborItems, p *policy.Points) {
	c.fields(3)
	text(c, &p.Name)
	number(c, &p.Points)
	text(c, &p.Detail)
}

// decision leaves out the digest, which the head of an entry says.
func decision(c *cborItems, d *policy.Decision) {
	c.fields(18)
	number(c, &d.Action)
	number(c, &d.Code)
	enhanced(c, &d.Enhanced)
	text(c, &d.Reason)
	text(c, &d.Detail)
	list(c, &d.Rules, text)
	c.time(&d.Until)
	text(c, &d.UntilBy)
	c.time(&d.ReleaseAt)
	c.bool(&d.OnlyNew)
	list(c, &d.Limits, limit)
	list(c, &d.Route, text)
	list(c, &d.Methods, text)
	list(c, &d.Tags, text)
	list(c, &d.Edits, edit)
	list(c, &d.Warnings, text)
	c.float(&d.Score)
	list(c, &d.Points, scorePoints)
}

func enhanced(c *cborItems, e *mail.Enhanced) {
	c.fields(3)
	number(c, &e[0])
	number(c, &e[1])
	number(c, &e[2])
}

func limit(c *cborItems, l *policy.Limit) {
	c.fields(8)
	text(c, &l.Rule)
	list(c, &l.Key, text)
	text(c, &l.Count)
	c.float(&l.Rate)
	number(c, &l.Per)
	number(c, &l.Burst)
	text(c, &l.Over)
	number(c, &l.MaxWait)
}

func edit(c *cborItems, e *mail.Edit) {
	c.fields(3)
	number(c, &e.Op)
	text(c, &e.Name)
	text(c, &e.Value)
}

func scorePoints(c *cborItems, p *policy.ScorePoints) {
	c.fields(3)
	text(c, &p.Rule)
	text(c, &p.Name)
	c.float(&p.Points)
}

func needs(c *cborItems, n *policy.Needs) {
	all := [...]*bool{&n.Sender, &n.Recipient, &n.Message, &n.Usage, &n.CredentialUsage, &n.FirstTime, &n.Suppressed,
		&n.Headers, &n.Attachments, &n.URLHosts, &n.Candidates, &n.ReverseDNS, &n.Bulk, &n.Unusual}
	c.fields(len(all))
	for _, v := range all {
		c.bool(v)
	}
}

func end(c *cborItems, e *End) {
	c.fields(4)
	c.bool(&e.Accepted)
	c.octets(e.Message[:])
	number(c, &e.Code)
	text(c, &e.Reason)
}

// moment is a time that every entry has, in nanoseconds since 1970.
func moment(c *cborItems, at *time.Time) {
	ns := at.UnixNano()
	number(c, &ns)
	if c.read {
		*at = time.Unix(0, ns).UTC()
	}
}
