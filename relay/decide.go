package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
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
	in := lend(t, &t.room.sender)
	if err := t.senderInput(ctx, in); err != nil {
		return err
	}
	d, err := t.ruleSender(ctx, in)
	return t.rule(policy.PackageSender, "", d, err, &t.fate)
}

// askRecipient asks the recipient stage about one recipient. A refusal, and
// what is decided about its fate, concern that recipient alone.
func (t *transaction) askRecipient(ctx context.Context, a mail.Address, fate *fateOfOne) error {
	in := lend(t, &t.room.recipient)
	err := t.senderInput(ctx, &in.SenderInput)
	if err != nil {
		return err
	}
	at := t.in.Planner.places.of(a.Domain)
	in.Recipient = policy.Recipient{Address: a.String(), Domain: a.Domain, Site: at.site, Family: at.family}
	fate.family = at.family
	if t.countsFirst() {
		in.Recipient.FirstTime, err = t.in.Known.FirstTime(ctx, t.view.Tenant.ID, a)
		if err := t.spare(err, readsFirst); err != nil {
			return fmt.Errorf("looking up a known recipient: %w", err)
		}
		fate.firstTime = in.Recipient.FirstTime
	}
	if readsSuppressed(t.policy.Needs()) {
		in.Recipient.Suppressed, err = t.suppressed(ctx, a)
		if err := t.spare(err, readsSuppressed); err != nil {
			return fmt.Errorf("looking up a suppression: %w", err)
		}
	}
	d, err := t.ruleRecipient(ctx, in)
	fate.took = t.reservation.Len()
	if err := t.rule(policy.PackageRecipient, in.Recipient.Address, d, err, fate); err != nil {
		return err
	}
	fate.counts = t.counting.batch.ofRecipients()
	if in.Recipient.FirstTime {
		t.firstTime++
	}
	return nil
}

// countsFirst tells whether the policy asks who is mailed for the first time,
// or how many were.
func (t *transaction) countsFirst() bool { return readsFirst(t.policy.Needs()) }

// askMessage asks the message stage and takes over what it says of route,
// methods and header, as far as the tenant has what it names.
func (t *transaction) askMessage(ctx context.Context, m *mail.Message, h header.Header, in *method.Input) error {
	trial := method.Choose(in)
	t.choice = trial
	q := lend(t, &t.room.message)
	*q = policy.MessageInput{Message: t.messageInput(m, h)}
	err := t.senderInput(ctx, &q.SenderInput)
	if err != nil {
		return err
	}
	q.Envelope.Size = m.Size
	if q.Identity, err = t.identity(ctx, m.From, in, trial); err != nil {
		return err
	}
	if t.policy.Needs().Candidates {
		list := lend(t, &t.room.candidates)
		for i := range trial.Choices {
			c := &trial.Choices[i]
			*list = append(*list, policy.Candidate{Upstream: c.Upstream, Method: c.Method, Holds: c.Holds, Why: c.Why})
		}
		q.Candidates = *list
	}
	if needs := t.policy.Needs(); needs.URLHosts || needs.Attachments && t.mayAttach(h) {
		parts, err := scan.ReadParts(io.NewSectionReader(t.draft, 0, t.draft.Size()))
		if err := t.spare(err, readsParts); err != nil {
			return err
		}
		for _, a := range parts.Attachments {
			q.Message.Attachments = append(q.Message.Attachments, policy.Attachment(a))
		}
		q.Message.URLHosts = parts.URLHosts
	}
	q.Message.OneClick = oneClick(m, h)
	q.Authentication = t.authentication(ctx, in, trial)
	if readsBulk(t.policy.Needs()) {
		q.Bulk, err = t.bulk(ctx, in, q.Authentication)
		if err := t.spare(err, readsBulk); err != nil {
			return err
		}
	}
	if err := t.spare(t.measure(ctx, m, h, q), readsUnusual); err != nil {
		return err
	}
	d, err := t.ruleMessage(ctx, q)
	if err := t.rule(policy.PackageMessage, "", d, err, &t.fate); err != nil {
		return err
	}
	return t.redirect(d, in)
}

// mayAttach tells whether a message can carry files at all; plain text need not
// be read again to find none.
func (t *transaction) mayAttach(h header.Header) bool {
	media := t.media.kind
	return h.Has("Content-Disposition") || media != "" && media != "text/plain" && media != "text/html" || t.media.named
}

// media is what the message's Content-Type says.
type media struct {
	kind  string
	named bool // it has a name, as a file has
}

func mediaOf(h header.Header) media {
	value := h.Get("Content-Type")
	if value == "" {
		return media{}
	}
	kind, named := header.MediaType(value)
	return media{kind, named}
}

// redirect applies route and method of a decision. Rego may choose among what
// Go has verified, and name nothing else.
func (t *transaction) redirect(d policy.Decision, in *method.Input) error {
	if len(d.Methods) > 0 {
		own := slices.DeleteFunc(slices.Clone(d.Methods), func(m mail.Method) bool { return !slices.Contains(in.Methods, m) })
		if len(own) == 0 {
			return t.impossible(d, fmt.Sprintf("the tenant uses none of the methods %v", d.Methods))
		}
		in.Methods, t.redirected = own, true
	}
	if len(d.Route) == 0 {
		return nil
	}
	t.redirected = true
	in.Route = nil
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
		return t.impossible(d, strings.Join(problems, "; "))
	}
	return nil
}

// impossible is a policy that asks for what the tenant does not have: an error
// of the policy, and so a matter for its author.
func (t *transaction) impossible(d policy.Decision, why string) error {
	t.in.o.Log.Error("the policy leaves no way out", "tenant", t.view.Tenant.Name, "rules", d.Rules, "problem", why)
	return &mail.Failure{Code: 451, Enhanced: mail.Enhanced{4, 3, 0}, Scope: mail.OfUs, Reason: mail.ReasonInternal,
		Text: "the policy leaves no way out for this message; its author has to correct it", Err: fmt.Errorf("rules %v: %s", d.Rules, why)}
}

// rule takes a decision over: a refusal ends the command or the recipient, a
// limit that is reached does what its rule says, and the rest is remembered
// until the message is there. Fate is that of the message, or of the recipient
// asked about, whose address is about. An engine error is never an acceptance.
func (t *transaction) rule(pkg, about string, d policy.Decision, err error, fate *fateOfOne) error {
	if err != nil {
		t.in.o.Log.Error("policy could not decide", "package", pkg, "tenant", t.view.Tenant.Name, "err", err)
		return &mail.Failure{Code: 451, Enhanced: mail.Enhanced{4, 3, 0}, Scope: mail.OfUs, Reason: mail.ReasonInternal, Err: err,
			Text: "the policy could not be asked; try again in a few minutes"}
	}
	if f := d.Failure(); f != nil {
		t.ruled(pkg, about, &d, policy.Accept, "")
		t.in.o.Log.Info("refused by policy", "tenant", t.view.Tenant.Name, "credential", t.p.Username, "package", pkg, "rules", d.Rules,
			"code", d.Code, "reason", d.Reason, "detail", d.Detail, "recipient", about)
		return f
	}
	var limited fateOfOne
	if err := t.reserve(pkg, d.Limits, &limited); err != nil {
		t.policy.Limited(pkg)
		if over := (*OverLimit)(nil); errors.As(mail.AsFailure(err), &over) {
			t.ruled(pkg, about, &d, policy.Defer, over.Rule)
		}
		return err
	}
	t.ruled(pkg, about, &d, limited.action, limited.rule())
	fate.add(limited)
	t.take(pkg, d, fate)
	t.warnings = addNew(t.warnings, d.Warnings)
	t.tags = addNew(t.tags, d.Tags)
	t.edits = addNew(t.edits, d.Edits)
	return nil
}

// ruled notes for the timeline what a stage came to. What its limits did counts
// if that is more than what its rules said; the rule of the limit then stands
// first. Of recipients that a limit lets wait, other events tell.
func (t *transaction) ruled(pkg, about string, d *policy.Decision, limited policy.Action, rule string) {
	r := d.Ruling(pkg)
	if limited > d.Action {
		r.Decision = limited.String()
		r.Rules = append([]string{rule}, slices.DeleteFunc(slices.Clone(r.Rules), func(o string) bool { return o == rule })...)
	}
	if d.Action != policy.Accept || limited >= policy.Defer {
		r.About = about
	} else if len(r.Rules) == 0 {
		return
	}
	t.rulings = addRuling(t.rulings, r)
}

// addNew appends what is not there yet: a rule that says the same of each
// recipient has said it once.
func addNew[T comparable](list, more []T) []T {
	for _, x := range more {
		if !slices.Contains(list, x) {
			list = append(list, x)
		}
	}
	return list
}

// maxRulings bounds what the first event of a message tells of the policy.
const maxRulings = 50

// addRuling appends a ruling unless its like is there already, as it is from
// the second recipient on.
func addRuling(rulings []mail.Ruling, r mail.Ruling) []mail.Ruling {
	same := func(o mail.Ruling) bool {
		return o.Package == r.Package && o.Decision == r.Decision && o.Detail == r.Detail && o.About == r.About && slices.Equal(o.Rules, r.Rules) &&
			slices.Equal(o.Tags, r.Tags) && slices.Equal(o.Warnings, r.Warnings) && slices.Equal(o.Rewrites, r.Rewrites)
	}
	if len(rulings) >= maxRulings || slices.ContainsFunc(rulings, same) {
		return rulings
	}
	return append(rulings, r)
}

// senderInput fills in what every stage sees.
func (t *transaction) senderInput(ctx context.Context, in *policy.SenderInput) error {
	who := t.shown()
	stream := t.hints.Stream
	if stream == "" {
		stream = mail.StreamTransactional
	}
	*in = policy.SenderInput{
		Time:       t.now.UnixNano(),
		Session:    who.session,
		Tenant:     who.tenant,
		Credential: who.credential,
		Stream:     stream,
		Envelope: policy.Envelope{
			From: t.from, FromDomain: t.envelope.From.Domain, Size: t.declared, Recipients: len(t.recipients), NewRecipients: t.firstTime,
			UTF8: t.envelope.UTF8, EightBit: t.envelope.EightBit, RequireTLS: t.envelope.RequireTLS,
		},
	}
	if readsUsage(t.policy.Needs()) {
		var err error
		in.Usage, err = t.usage(ctx)
		if err := t.spare(err, readsUsage); err != nil {
			return err
		}
	}
	return nil
}

// shown is what policies see of who sends. The engine keeps what it made of
// these values inside them, so a principal keeps them as long as they hold.
type shown struct {
	client Client
	addr   string // of the client
	view   *tenant.View

	session    *policy.Session
	tenant     *policy.Tenant
	credential *policy.Credential
}

func (t *transaction) shown() *shown {
	s := t.p.shown.Load()
	if s == nil || s.client != t.client || s.view != t.view {
		s = &shown{client: t.client, addr: t.client.Addr.String(), view: t.view,
			session:    &policy.Session{Addr: t.client.Addr.Addr().String(), Helo: t.client.Helo, TLS: t.client.TLS, Door: t.client.Door},
			tenant:     t.in.Planner.ways(t.view).policy,
			credential: &policy.Credential{Username: t.p.credential.Username, Scope: t.p.credential.Scope},
		}
		t.p.shown.Store(s)
	}
	return s
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
	t.author = t.from
	if m.From != t.envelope.From {
		t.author = m.From.String()
	}
	p := policy.Message{
		From: t.author, FromDomain: m.From.Domain, FromName: m.FromName, Subject: m.Subject,
		MessageID: h.Get("Message-ID"), Size: m.Size, Tag: m.Tag,
	}
	if t.policy.Needs().Headers {
		for _, f := range h.All() {
			p.Headers = append(p.Headers, [2]string{f.Name, f.Value()})
		}
	}
	return p
}
