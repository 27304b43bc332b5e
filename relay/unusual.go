package relay

import (
	"context"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strings"

	"behalf/internal/kv"
	"behalf/limit/habit"
	"behalf/mail"
	"behalf/mail/header"
	"behalf/mail/scan"
	"behalf/policy"
	"behalf/tenant"
)

// RuleUnusual is the name of the rule that holds what is unusual. What a rule of
// that name holds is counted, shown and released together.
const RuleUnusual = "unusual"

// How much of the texts tells what a message is like, and how much of a body that
// is not in memory is looked at, in octets.
const (
	textMost = 64 << 10
	bodyMost = 64 << 10
)

// measure asks how unusual the message is. From then on its new recipients count
// as sent, until the transaction ends.
func (t *transaction) measure(ctx context.Context, m *mail.Message, h header.Header, q *policy.MessageInput) error {
	if !t.policy.Needs().Unusual {
		return nil
	}
	ask := habit.Question{Tenant: m.Tenant, Credential: t.p.Username, Everywhere: t.p.credential.Scope == tenant.ScopePlatform, Now: t.clock(), Size: m.Size}
	for i := range t.recipients {
		if t.fates[i].firstTime && !t.recipients[i].State.Final() {
			ask.New++
		}
	}
	if ask.New > 0 {
		texts, all, err := t.texts(h)
		if err != nil {
			return err
		}
		ask.Text = habit.TextOf(m.Subject, all, texts...)
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
	q.Unusual = policy.Unusual{Score: a.Score, NewRecipients: a.NewRecipients, Held: a.Held, HeldOctets: a.HeldOctets, TenantHeldOctets: a.TenantHeldOctets}
	for _, r := range a.Reasons {
		q.Unusual.Reasons = append(q.Unusual.Reasons, policy.Points(r))
	}
	return nil
}

// texts are those of the message, decoded, and whether these are all that it has.
// Most drafts are in memory; of one that is not, the beginning is looked at.
func (t *transaction) texts(h header.Header) (texts [][]byte, all bool, err error) {
	at := t.scanner.HeaderSize()
	body, whole := t.draft.Bytes()
	if whole {
		body = body[min(at, len(body)):]
	} else {
		body = make([]byte, bodyMost)
		n, err := t.draft.ReadAt(body, int64(at))
		if err != nil && err != io.EOF {
			return nil, false, fmt.Errorf("reading the text: %w", err)
		}
		body, whole = body[:n], err == io.EOF
	}
	how := scan.Text{Type: strings.TrimSpace(h.Get("Content-Type")), Encoding: h.Get("Content-Transfer-Encoding")}
	texts, all = how.Texts(body, textMost)
	return texts, all && whole, nil
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

// sortOut counts the slice, and who else goes out for the first time, be it later.
// It gives back what the slice took from limits on recipients, and all that the
// message took if nothing of it goes: a thief must not use up what the rest of
// the tenant's mail needs. How much may be kept is bounded by the policy, in
// messages and in octets.
func (t *transaction) sortOut() {
	now := t.clock()
	goes := 0
	for i := len(t.recipients) - 1; i >= 0; i-- { // the last first: what is given back moves those behind it
		r, f := &t.recipients[i], &t.fates[i]
		slice := heldAsUnusual(r)
		if slice {
			t.heldUnusual++
		}
		if !slice || !kept(r) {
			goes++
		}
		switch {
		case slice && kept(r):
			for k := bits.Len64(f.counts) - 1; k >= 0; k-- {
				if f.counts&(1<<k) != 0 {
					t.reservation.Return(now, f.took+k, f.took+k+1)
				}
			}
		case f.firstTime && !kept(r) && !r.State.Final():
			t.passedNew++
		}
	}
	if goes == 0 {
		t.reservation.Abort(now)
	}
}

// learnKnown notes the recipients as known, but for those who get nothing by now:
// who was only ever written to by mail that is held must not pass for known.
func (t *transaction) learnKnown(w kv.Writer, m *mail.Message) error {
	for i := range t.recipients {
		r := &t.recipients[i]
		if r.State == mail.Held || r.State == mail.Discarded || r.State == mail.Suppressed {
			continue
		}
		if err := t.in.Known.Learn(w, m.Tenant, r.Address); err != nil {
			return err
		}
	}
	return nil
}

// LearnReleased notes recipients as known who were held, and are let go by a
// person or in time: they get that mail, and are not new to the next. A failure is
// logged.
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
