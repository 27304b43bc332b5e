package relay

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"behalf/mail"
	"behalf/mail/header"
	"behalf/mail/scan"
	"behalf/policy"
	"behalf/tenant"
	"behalf/tenant/method"
)

// askSender asks the sender stage.
func (t *transaction) askSender(ctx context.Context) error {
	in, err := t.senderInput(ctx)
	if err != nil {
		return err
	}
	d, err := t.policy.Sender(ctx, &in)
	return t.rule(stageSender, d, err, nil)
}

// askRecipient asks the recipient stage about r, which may come out held or
// paced. A refusal concerns r alone.
func (t *transaction) askRecipient(ctx context.Context, r *mail.Recipient) error {
	sender, err := t.senderInput(ctx)
	if err != nil {
		return err
	}
	in := policy.RecipientInput{SenderInput: sender}
	in.Recipient = policy.Recipient{Address: r.Address.String(), Domain: r.Address.Domain, Site: siteOf(r.Address.Domain)}
	needs := t.policy.Needs()
	if needs.FirstTime || needs.Usage || needs.CredentialUsage {
		first, err := t.in.Known.FirstTime(ctx, t.view.Tenant.ID, r.Address)
		if err != nil {
			return fmt.Errorf("looking up a known recipient: %w", err)
		}
		if in.Recipient.FirstTime = first; first {
			t.firstTime++
		}
	}
	if needs.Suppressed {
		if in.Recipient.Suppressed, err = t.suppressed(ctx, r.Address); err != nil {
			return fmt.Errorf("looking up a suppression: %w", err)
		}
	}
	d, err := t.policy.Recipient(ctx, &in)
	return t.rule(stageRecipient, d, err, r)
}

// askMessage asks the message stage and takes over what it says of route,
// methods and header, as far as the tenant has what it names.
func (t *transaction) askMessage(ctx context.Context, m *mail.Message, h header.Header, in *method.Input) error {
	trial := method.Choose(in)
	sender, err := t.senderInput(ctx)
	if err != nil {
		return err
	}
	q := policy.MessageInput{SenderInput: sender, Message: t.messageInput(m, h)}
	q.Envelope.Size = m.Size
	if q.Identity, err = t.identity(ctx, m.From, in, trial); err != nil {
		return err
	}
	for _, c := range trial.Choices {
		q.Candidates = append(q.Candidates, policy.Candidate{Upstream: c.Upstream, Method: c.Method, Holds: c.Holds, Why: c.Why})
	}
	if needs := t.policy.Needs(); needs.URLHosts || needs.Attachments && mayAttach(h) {
		parts, err := scan.ReadParts(io.NewSectionReader(t.draft, 0, t.draft.Size()))
		if err != nil {
			return err
		}
		for _, a := range parts.Attachments {
			q.Message.Attachments = append(q.Message.Attachments, policy.Attachment(a))
		}
		q.Message.URLHosts = parts.URLHosts
	}
	d, err := t.policy.Message(ctx, &q)
	if err := t.rule(stageMessage, d, err, nil); err != nil {
		return err
	}
	return t.redirect(d, in)
}

// mayAttach tells whether a message can carry files at all; plain text need not
// be read again to find none.
func mayAttach(h header.Header) bool {
	media, params := header.ContentType(h.Get("Content-Type"))
	return h.Has("Content-Disposition") || media != "" && media != "text/plain" && media != "text/html" || params["name"] != ""
}

// redirect applies route and method of a decision. Rego may choose among what
// Go has verified, and name nothing else.
func (t *transaction) redirect(d policy.Decision, in *method.Input) error {
	t.methods = d.Methods
	if len(d.Route) == 0 {
		return nil
	}
	in.Route = in.Route[:0]
	var problems []string
	for _, id := range d.Route {
		if s := t.in.Planner.step(t.view, id); s.Problem == "" {
			in.Route = append(in.Route, s)
		} else {
			problems = append(problems, s.Problem)
		}
	}
	if len(problems) > 0 {
		t.in.o.Log.Warn("the policy routes through what is not there", "tenant", t.view.Tenant.Name, "rules", d.Rules, "problems", problems)
	}
	if len(in.Route) == 0 {
		return fmt.Errorf("the policy leaves tenant %s no way out: %s", t.view.Tenant.Name, strings.Join(problems, "; "))
	}
	return nil
}

// rule takes a decision over: a refusal ends the command or the recipient, a
// limit that is reached does what its rule says, and the rest is remembered
// until the message is there. What was decided about one recipient concerns r
// alone; a nil r is the whole message. An engine error is never an acceptance.
func (t *transaction) rule(pkg string, d policy.Decision, err error, r *mail.Recipient) error {
	if err != nil {
		t.in.o.Log.Error("policy could not decide", "package", pkg, "tenant", t.view.Tenant.Name, "err", err)
		return &mail.Failure{Code: 451, Enhanced: mail.Enhanced{4, 3, 0}, Scope: mail.OfUs, Reason: mail.ReasonInternal, Err: err,
			Text: "the policy could not be asked; try again in a few minutes"}
	}
	if len(d.Rules) > 0 || d.Action != policy.Accept {
		t.rulings = append(t.rulings, d.Ruling(pkg))
	}
	t.warnings = append(t.warnings, d.Warnings...)
	t.tags = append(t.tags, d.Tags...)
	t.edits = append(t.edits, d.Edits...)
	if f := d.Failure(); f != nil {
		return f
	}
	fate := &t.fate
	if r != nil {
		fate = &fateOfOne{}
	}
	fate.take(d)
	if err := t.reserve(pkg, d.Limits, fate); err != nil {
		return err
	}
	if r != nil {
		fate.apply(r, t.now)
	}
	return nil
}

// senderInput is what every stage sees.
func (t *transaction) senderInput(ctx context.Context) (policy.SenderInput, error) {
	v := t.view
	stream := t.hints.Stream
	if stream == "" {
		stream = mail.StreamTransactional
	}
	in := policy.SenderInput{
		Time:       t.now.UnixNano(),
		Session:    &policy.Session{Addr: t.client.Addr.Addr().String(), Helo: t.client.Helo, TLS: t.client.TLS, Door: t.client.Door},
		Tenant:     tenantInput(v),
		Credential: &policy.Credential{Username: t.p.credential.Username, Scope: t.p.credential.Scope},
		Stream:     stream,
		Envelope: policy.Envelope{
			From: t.envelope.From.String(), FromDomain: t.envelope.From.Domain, Size: t.declared, Recipients: len(t.recipients),
			UTF8: t.envelope.UTF8, EightBit: t.envelope.EightBit, RequireTLS: t.envelope.RequireTLS,
		},
	}
	if needs := t.policy.Needs(); needs.Usage || needs.CredentialUsage {
		var err error
		if in.Usage, err = t.usage(ctx); err != nil {
			return in, err
		}
	}
	return in, nil
}

func tenantInput(v *tenant.View) *policy.Tenant {
	p := &policy.Tenant{
		ID: v.Tenant.ID, Name: v.Tenant.Name, Labels: v.Tenant.Labels, Methods: v.Methods(), AllowFromChange: v.Tenant.AllowFromChange,
	}
	if s := v.Tenant.Suspended; s != nil {
		p.Suspended = &policy.Suspension{Reason: s.Reason}
		if !s.Until.IsZero() {
			p.Suspended.Until = s.Until.Format(time.RFC3339)
		}
	}
	return p
}

func (t *transaction) messageInput(m *mail.Message, h header.Header) policy.Message {
	p := policy.Message{
		From: m.From.String(), FromDomain: m.From.Domain, FromName: m.FromName, Subject: m.Subject,
		MessageID: h.Get("Message-ID"), Size: m.Size, Tag: m.Tag,
	}
	if t.policy.Needs().Headers {
		for _, f := range h.All() {
			p.Headers = append(p.Headers, [2]string{f.Name, f.Value()})
		}
	}
	return p
}
