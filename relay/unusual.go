package relay

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"behalf/internal/kv"
	"behalf/limit/habit"
	"behalf/mail"
	"behalf/mail/header"
	"behalf/mail/scan"
	"behalf/policy"
)

// RuleUnusual is the name of the rule that holds what is unusual. What a rule of
// that name holds is counted, shown and released together.
const RuleUnusual = "unusual"

// How much of a text tells what it is like, and of a body where it may begin, in
// octets.
const (
	textMost = 2 << 10
	bodyMost = 16 << 10
)

// measure asks how unusual the message is. From then on its new recipients count
// as sent, until the transaction ends.
func (t *transaction) measure(ctx context.Context, m *mail.Message, h header.Header, q *policy.MessageInput) error {
	if !t.policy.Needs().Unusual {
		return nil
	}
	ask := habit.Question{Tenant: m.Tenant, Credential: t.p.Username, Now: t.clock()}
	for i := range t.recipients {
		if t.fates[i].firstTime && !t.recipients[i].State.Final() {
			ask.New++
		}
	}
	if ask.New > 0 {
		text, err := t.beginning(h)
		if err != nil {
			return err
		}
		ask.Text = habit.LikenessOf(m.Subject, text)
	}
	used, err := t.usage(ctx)
	if err != nil {
		return err
	}
	ask.Recipients, ask.Bounces = used.Credential.Day.Recipients, used.Credential.Day.Bounces
	var a habit.Answer
	if t.habit, a, err = t.in.Habits.Ask(ctx, ask); err != nil {
		return err
	}
	t.unusual = a
	q.Unusual = policy.Unusual{Score: a.Score, NewRecipients: a.NewRecipients, Held: a.Held}
	for _, r := range a.Reasons {
		q.Unusual.Reasons = append(q.Unusual.Reasons, policy.Points(r))
	}
	return nil
}

// beginning is that of the message's text, decoded. Nothing but the beginning of
// the body is looked at, which most drafts have in memory.
func (t *transaction) beginning(h header.Header) ([]byte, error) {
	at := t.scanner.HeaderSize()
	body, ok := t.draft.Bytes()
	if ok {
		body = body[min(at, len(body)):]
	} else {
		body = make([]byte, bodyMost)
		n, err := t.draft.ReadAt(body, int64(at))
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("reading the text: %w", err)
		}
		body = body[:n]
	}
	how := scan.Text{Type: strings.TrimSpace(h.Get("Content-Type")), Encoding: h.Get("Content-Transfer-Encoding")}
	return how.First(body[:min(bodyMost, len(body))], textMost), nil
}

// take lets a decision decide a fate. A hold of new recipients alone passes the
// others by.
func (t *transaction) take(pkg string, d policy.Decision, fate *fateOfOne) {
	if !d.OnlyNew || pkg == policy.PackageSender || !readsFirst(t.policy.Own()) { // who is new is not known
		fate.take(d)
		return
	}
	rest := d
	rest.Action = policy.Accept
	fates := []*fateOfOne{fate}
	if pkg == policy.PackageMessage {
		fates = fates[:0]
		for i := range t.fates {
			fates = append(fates, &t.fates[i])
		}
	}
	for _, f := range fates {
		if f.firstTime {
			f.take(d)
		} else {
			f.take(rest)
		}
	}
}

// kept tells whether a recipient is held until a person lets it go.
func kept(r *mail.Recipient) bool { return r.State == mail.Held && r.Next.IsZero() }

// heldAsUnusual tells whether a recipient is one of the slice.
func heldAsUnusual(r *mail.Recipient) bool {
	return r.State == mail.Held && (r.Rule == RuleUnusual || strings.HasSuffix(r.Rule, ":"+RuleUnusual))
}

// sortOut counts the slice, and gives back what it took from limits: mail that
// does not go must not use up what the rest of the tenant's mail needs.
func (t *transaction) sortOut() {
	going := 0
	for i := len(t.recipients) - 1; i >= 0; i-- { // the last first: what is given back moves those behind it
		r, f := &t.recipients[i], &t.fates[i]
		switch {
		case heldAsUnusual(r):
			t.heldUnusual++
			if kept(r) {
				t.reservation.Return(t.clock(), f.took[0], f.took[1])
				continue
			}
		case f.firstTime && r.State == mail.Queued:
			t.passedNew++
		}
		if !r.State.Final() {
			going++
		}
	}
	if t.heldUnusual > 0 && going == 0 {
		t.reservation.Abort(t.clock())
	}
}

// learnKnown notes the recipients as known, but for those who get nothing: who
// was only ever written to by mail that is held must not pass for known.
func (t *transaction) learnKnown(w kv.Writer, m *mail.Message) error {
	for i := range t.recipients {
		r := &t.recipients[i]
		if kept(r) || r.State == mail.Discarded || r.State == mail.Suppressed {
			continue
		}
		if err := t.in.Known.Learn(w, m.Tenant, r.Address); err != nil {
			return err
		}
	}
	return nil
}

// LearnReleased notes recipients as known whom a person let go: who was held as
// unusual gets that mail, and is not new to the next. A failure is logged.
func (in *Intake) LearnReleased(ctx context.Context, who map[mail.TenantID][]mail.Address) {
	const atOnce = 1000 // rows in a transaction
	for t, list := range who {
		for some := range slices.Chunk(list, atOnce) {
			err := in.Spool.Update(ctx, func(w kv.Writer) error {
				for _, a := range some {
					if err := in.Known.Learn(w, t, a); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				in.o.Log.Error("released recipients were not noted as known", "tenant", t, "recipients", len(some), "err", err)
				return
			}
		}
	}
}

// learnHabit counts an accepted message in the habits of its credential. The
// first that is held of an episode is told of; a failure of that is logged and
// changes nothing about the message.
func (t *transaction) learnHabit(ctx context.Context, m *mail.Message) {
	if t.habit == nil {
		return
	}
	opens := t.heldUnusual > 0 && t.habit.Opens()
	t.habit.Done(m.ID, int64(t.passedNew), int64(t.heldUnusual))
	if t.heldUnusual > 0 {
		t.in.o.Metrics.heldAsUnusual()
	}
	if !opens {
		return
	}
	reason := t.p.Username + ": " + t.unusual.Text()
	t.in.o.Log.Warn("unusual mail is held; see it with: behalf tenant unusual "+t.view.Tenant.Name,
		"tenant", t.view.Tenant.Name, "credential", t.p.Username, "message", m.ID.String(), "score", t.unusual.Score, "reasons", t.unusual.Text())
	e := mail.Event{At: t.now, Type: mail.EventUnusual, Message: m.ID, Tenant: m.Tenant, Reason: reason}
	if err := t.in.Spool.Update(context.WithoutCancel(ctx), func(w kv.Writer) error { return t.in.Spool.Append(w, e) }); err != nil {
		t.in.o.Log.Error("an event was not written", "tenant", t.view.Tenant.Name, "type", string(e.Type), "err", err)
	}
}
