package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"behalf/internal/blob"
	"behalf/internal/kv"
	"behalf/mail"
	"behalf/mail/header"
	"behalf/spool"
	"behalf/tenant/method"
)

// accept takes a message whose bytes have all come, step by step, and ends
// with spool.Put: once that has returned nil, the message is ours.
func (t *transaction) accept(ctx context.Context) (Receipt, error) {
	if err := t.tooOld(); err != nil {
		return Receipt{}, err
	}
	if len(t.recipients) == 0 {
		return Receipt{}, mail.Fail(554, mail.Enhanced{5, 5, 1}, mail.OfMessage, mail.ReasonRejected, "no valid recipients")
	}
	h, err := t.readHeader()
	if err != nil {
		return Receipt{}, err
	}
	if err := t.readHints(ctx, h); err != nil {
		return Receipt{}, err
	}
	if r, found, err := t.repeated(ctx); found || err != nil {
		return r, err
	}
	m, err := t.message(h)
	if err != nil {
		return Receipt{}, err
	}
	if err := t.suppress(ctx, m); err != nil {
		return Receipt{}, err
	}
	var in facts
	t.in.Planner.gather(ctx, t.view, m, &in)
	in.Route = t.in.Planner.stepsOf(t.view, t.wanted()...)
	if err := t.askMessage(ctx, m, h, &in.Input); err != nil {
		return Receipt{}, err
	}
	choice, err := t.choose(m, &in.Input)
	if err != nil {
		return Receipt{}, err
	}
	if err := t.reserveAddress(m); err != nil {
		return Receipt{}, err
	}
	t.schedule(m)
	t.sortOut()
	m.Edits = append(hygiene(h, t.ownsAddress), t.edits...)
	m.Front = front(t.in.o.Hostname, m, h, t.client.TLS != "")
	if err := t.hash(m, choice); err != nil {
		return Receipt{}, err
	}
	st, err := t.in.Spool.Put(ctx, t.draft, m, t.recipients, t.acceptance(choice), t.extra(m), append(t.pacing(m), t.crossing(m.ID)...)...)
	if err != nil {
		return t.notPut(ctx, err)
	}
	t.logAccepted(ctx, m)
	t.learn(ctx, m)
	t.in.Offer(st)
	if t.in.arrivals.count(m.Tenant, len(t.recipients), t.clock()) {
		t.in.Wait(ctx)
	}
	return Receipt{ID: m.ID, MessageID: m.MessageID, Warnings: append(t.warnings, t.fateWords()...)}, nil
}

// logAccepted writes the line that each message gets, by the handler itself: what
// a logger does besides is to look for its caller.
func (t *transaction) logAccepted(ctx context.Context, m *mail.Message) {
	to := t.in.o.Log.Handler()
	if !to.Enabled(ctx, slog.LevelInfo) {
		return
	}
	line := slog.NewRecord(time.Now(), slog.LevelInfo, "accepted", 0)
	line.AddAttrs(slog.String("id", m.ID.String()), slog.String("tenant", t.view.Tenant.Name), slog.String("credential", m.Credential),
		slog.String("door", string(m.Door)), slog.String("mail_from", t.from), slog.String("from", t.author),
		slog.Int("recipients", len(t.recipients)), slog.Int64("size", m.Size))
	_ = to.Handle(ctx, line) // as a logger does
}

// readHeader ends the scan and parses the header.
func (t *transaction) readHeader() (header.Header, error) {
	if t.draft == nil {
		if _, err := t.Write(nil); err != nil {
			return header.Header{}, err
		}
	}
	if err := t.scanner.Close(); err != nil {
		return header.Header{}, err
	}
	h, err := header.ParseInto(t.scanner.Header(), t.room.fields)
	if err != nil {
		return h, err
	}
	t.room.fields = h.All()
	if looping(t.in.o.Hostname, h) {
		return h, mail.Fail(554, mail.Enhanced{5, 4, 6}, mail.OfMessage, mail.ReasonLoop, "the message has been relayed too often; there is a loop between servers")
	}
	return h, nil
}

// readHints reads the Behalf-… fields and, now that a platform credential has
// had its last chance to name a tenant, asks the stages that had to wait.
func (t *transaction) readHints(ctx context.Context, h header.Header) error {
	for _, f := range h.All() {
		if isHint(f.Name) {
			if h.Count(f.Name) > 1 { // which one is meant?
				return mail.Fail(550, mail.Enhanced{5, 6, 0}, mail.OfMessage, mail.ReasonContent, "the message has %d %s fields; give one", h.Count(f.Name), f.Name)
			}
			if err := t.hints.setHint(f.Name, f.Value()); err != nil {
				return err
			}
		}
	}
	if err := t.hints.check(t.now); err != nil {
		return err
	}
	if t.hints.Tenant != "" {
		if err := t.nameTenant(ctx, t.hints.Tenant); err != nil {
			return err
		}
	}
	if t.view == nil {
		return mail.Fail(550, mail.Enhanced{5, 7, 1}, mail.OfMessage, mail.ReasonPolicy,
			"%s acts for several tenants; name one: the header Behalf-Tenant (of the message or of the HTTP request), the field tenant, the username %s+TENANT, or authzid", t.p.Username, t.p.Username)
	}
	if t.asked == len(t.recipients) {
		return nil
	}
	if err := t.askSender(ctx); err != nil {
		return err
	}
	for ; t.asked < len(t.recipients); t.asked++ {
		a := t.recipients[t.asked].Address
		if err := t.askRecipient(ctx, a, &t.fates[t.asked]); err != nil {
			return about(a, err)
		}
	}
	return nil
}

// about says which recipient a refusal of the whole message is about.
func about(a mail.Address, err error) error {
	f := *mail.AsFailure(err)
	if f.Scope != mail.OfUs {
		f.Text = a.String() + ": " + f.Text
	}
	return &f
}

// message is the facts of the message, as they will be kept.
func (t *transaction) message(h header.Header) (*mail.Message, error) {
	from, name, err := fromOf(h)
	if err != nil {
		return nil, err
	}
	id := t.in.Spool.NewID(t.view.Tenant.ID, t.now)
	m := &mail.Message{
		ID: id, Tenant: t.view.Tenant.ID, Credential: t.p.Username, Door: t.client.Door,
		Stream: t.hints.Stream, Envelope: t.envelope, From: from, FromName: name,
		Subject: shorten(header.DecodeText(h.Get("Subject")), 200), MessageID: h.Get("Message-ID"),
		Size: t.draft.Size(), HeaderSize: t.scanner.HeaderSize(), BodyHash: t.scanner.BodyHash(), Body: t.scanner.Form(),
		Tag: t.hints.Tag, Metadata: t.hints.Metadata, Accepted: t.now, NotBefore: t.hints.SendAt,
		FromChange: t.view.Tenant.AllowFromChange, ReplyTo: h.Get("Reply-To"),
	}
	t.media = mediaOf(h)
	m.Body.Sealed = header.IsSealed(t.media.kind)
	if m.Door == mail.DoorHTTP { // a request has no word for it: SMTPUTF8 is what the message needs
		m.Envelope.UTF8 = m.Body.UTF8 || !from.ASCII() || !m.Envelope.From.ASCII()
		for i := range t.recipients {
			m.Envelope.UTF8 = m.Envelope.UTF8 || !t.recipients[i].Address.ASCII()
		}
	}
	if m.Stream == mail.StreamBroadcast && !h.Has("List-Unsubscribe") {
		m.Unsubscribe = true
		t.edits = append(t.edits, mail.Edit{Op: mail.EditRemove, Name: "List-Unsubscribe-Post"}) // half of a pair
	}
	if m.MessageID == "" {
		m.MessageID = newMessageID(id, t.in.Planner.o.SendingDomain)
	}
	if !from.ASCII() && !t.envelope.UTF8 {
		return nil, mail.Fail(553, mail.Enhanced{5, 6, 7}, mail.OfMessage, mail.ReasonCannotCarry, "the From address is not ASCII; say SMTPUTF8 in MAIL FROM")
	}
	return m, nil
}

// fromOf reads the one From field with its one mailbox.
func fromOf(h header.Header) (mail.Address, string, error) {
	if n := h.Count("From"); n != 1 {
		return mail.Address{}, "", mail.Fail(550, mail.Enhanced{5, 6, 0}, mail.OfMessage, mail.ReasonContent, "the message has %d From fields; give exactly one", n)
	}
	a, name, err := header.ParseFrom(h.Get("From"))
	if err != nil {
		return a, "", mail.Fail(550, mail.Enhanced{5, 6, 0}, mail.OfMessage, mail.ReasonContent, "the From field must hold exactly one mailbox: %v", err)
	}
	return a, name, nil
}

// wanted is the route to consider: what the client asked for, else the tenant's.
func (t *transaction) wanted() []mail.UpstreamID {
	if len(t.hints.Route) > 0 {
		return t.hints.Route
	}
	return t.in.Planner.ways(t.view).route
}

// choose settles the wishes: which upstreams, and by which methods there.
func (t *transaction) choose(m *mail.Message, in *method.Input) (method.Result, error) {
	for _, id := range t.hints.Route {
		if s := t.in.Planner.step(t.view, id); s.Problem != "" {
			return method.Result{}, mail.Fail(550, mail.Enhanced{5, 7, 1}, mail.OfMessage, mail.ReasonUpstreamAbsent, "the route asked for cannot be used: %s", s.Problem)
		}
	}
	in.Asked = t.hints.Method
	res := t.choice
	if t.redirected || in.Asked != "" {
		res = method.Choose(in)
	}
	if res.Err != nil {
		return res, res.Err
	}
	m.Wishes = res.Wishes
	m.Verp = m.Size <= wholeAbove || len(t.recipients) == 1
	for _, w := range res.Wishes {
		name, _ := strings.CutPrefix(string(w.Upstream), mail.ConnectionPrefix)
		if c, ok := t.view.Connection(name); ok && w.Upstream == mail.UpstreamID(mail.ConnectionPrefix+name) && c.Verp == "message" {
			m.Verp = false
		}
	}
	return res, nil
}

// hash makes the body hash that a signature needs, if it was not made while the
// body came in. Should another way need it later, it is made on that way.
func (t *transaction) hash(m *mail.Message, res method.Result) error {
	if m.Hashed() || !res.Sign {
		return nil
	}
	sum, err := t.scanner.HashBody(t.draft)
	if err != nil {
		return fmt.Errorf("hashing the body: %w", err)
	}
	m.BodyHash = sum
	return nil
}

// wholeAbove is the size from which several recipients share one return path,
// so that a large body travels once.
const wholeAbove = 1 << 20

// schedule puts the outcome of policy and limits on the message and its
// recipients.
func (t *transaction) schedule(m *mail.Message) {
	m.NotBefore = later(later(t.now, m.NotBefore), t.fate.notBefore)
	m.Tags = t.tags
	last := m.NotBefore
	for i := range t.recipients {
		r := &t.recipients[i]
		if r.State.Final() {
			continue
		}
		r.Lane = mail.LaneFor(m.Wishes[0].Upstream, r.Address.Domain, m.Stream)
		r.Next = m.NotBefore
		t.fates[i].add(t.fate)
		t.fates[i].apply(r, t.now)
		last = later(last, r.Next)
	}
	// What must wait has its whole life still before it afterwards.
	m.Expires = last.Add(t.in.o.MaxAge)
}

// ownsAddress tells whether the tenant may name a as Sender.
func (t *transaction) ownsAddress(a mail.Address) bool {
	return t.view.Verified(a)
}

// acceptance is what the first event tells.
func (t *transaction) acceptance(res method.Result) *mail.Acceptance {
	return &mail.Acceptance{
		Client: t.shown().addr, Helo: t.client.Helo, TLS: t.client.TLS,
		Policy: t.rulings, Choices: res.Choices, Alignment: res.Alignment,
	}
}

// extra is what else is written in the transaction of acceptance.
func (t *transaction) extra(m *mail.Message) func(kv.Writer) error {
	learn := t.countsFirst()
	if t.hints.IdempotencyKey == "" && !learn {
		return nil
	}
	return func(w kv.Writer) error {
		if learn {
			if err := t.learnKnown(w, m); err != nil {
				return err
			}
		}
		if t.hints.IdempotencyKey == "" {
			return nil
		}
		return t.in.Spool.PutIdempotency(w, m.Tenant, t.hints.IdempotencyKey, m.ID, t.requestHash())
	}
}

// notPut explains why the message was not kept: a submission with the same
// idempotency key came first, or it is our trouble.
func (t *transaction) notPut(ctx context.Context, err error) (Receipt, error) {
	var twice *spool.ErrRepeated
	if errors.As(err, &twice) {
		return t.repeat(ctx, twice.ID, twice.Hash)
	}
	if errors.Is(err, kv.ErrTooBig) {
		return Receipt{}, mail.Fail(452, mail.Enhanced{4, 5, 3}, mail.OfMessage, mail.ReasonPolicy, "too many recipients for one message; split it")
	}
	if errors.Is(err, blob.ErrFull) {
		return Receipt{}, mail.Fail(452, mail.Enhanced{4, 3, 1}, mail.OfUs, mail.ReasonInternal, "the relay is short of disk space; try again later")
	}
	return Receipt{}, err
}

func shorten(s string, most int) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\ufffd")
	}
	n := 0
	for i := range s {
		if n == most {
			return s[:i]
		}
		n++
	}
	return s
}
