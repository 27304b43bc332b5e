package relay

import (
	"context"
	"time"

	"behalf/limit"
	"behalf/limit/habit"
	"behalf/mail"
	"behalf/mail/header"
	"behalf/mail/scan"
	"behalf/policy"
	"behalf/spool"
	"behalf/tenant"
	"behalf/tenant/method"
)

// transaction is one message on its way from a door to the spool.
type transaction struct {
	in       *Intake
	p        *Principal
	client   Client
	view     *tenant.View // nil until a platform credential named its tenant
	envelope mail.Envelope
	from     string // of the envelope
	author   string // of the header, once the message stage was asked
	declared int64  // SIZE of MAIL FROM
	hints    Hints
	policy   policy.Pinned // one set of rules for the whole message
	now      time.Time     // when it began, for good: the message's own time
	began    time.Time     // the same, by the clock that is never set back

	recipients []mail.Recipient
	fates      []fateOfOne // of each recipient, besides that of the whole message
	named      named
	asked      int // recipients that the policy has ruled on

	draft   *spool.Draft
	scanner *scan.Scanner
	media   media

	fate        fateOfOne // of the whole message
	rulings     []mail.Ruling
	warnings    []string
	tags        []string
	edits       []mail.Edit
	choice      method.Result // of the tenant's own route and methods
	redirected  bool          // the policy says otherwise
	counting    Counting
	standings   standings
	alarms      []mail.LimitEvent // of limits that refused something
	crossed     []mail.LimitEvent // of limits that this message was the first to use so far
	told        []mail.Event      // the events of crossed
	reservation limit.Reservation
	bulkCount   *limit.BulkReservation
	habit       *habit.Ticket
	unusual     habit.Answer
	heldUnusual int           // recipients that are held as unusual
	passedNew   int           // new recipients that go out
	firstTime   int           // recipients that the tenant has not mailed of late
	used        *policy.Usage // before this message
	usedAt      time.Time     // when that was so
	recording   recording     // to replay it later
	done        bool

	room room
}

// room is memory for what nobody keeps when the message has been taken or refused,
// nor when a question has been answered, unless a draft is tried on it: see lend.
type room struct {
	fields     []header.Field
	candidates []policy.Candidate
	sender     policy.SenderInput
	recipient  policy.RecipientInput
	message    policy.MessageInput
	usage      policy.Usage
}

// The bounds of the lists whose memory is used again.
const (
	maxFields     = 32
	maxCandidates = 16
)

// reset empties the room and keeps its lists.
func (r *room) reset() {
	fields, candidates := r.fields, r.candidates
	*r = room{}
	if cap(fields) <= maxFields {
		clear(fields[:cap(fields)]) // also what a header that was refused left there
		r.fields = fields[:0]
	}
	if cap(candidates) <= maxCandidates {
		clear(candidates)
		r.candidates = candidates[:0]
	}
}

// lend gives v, which is in the room of t, or a new one if questions are kept.
func lend[T any](t *transaction, v *T) *T {
	if t.policy.Keeps() {
		return new(T)
	}
	return v
}

// Recipient adds one recipient; an error refuses it alone. An address given
// twice is accepted twice and kept once.
func (t *transaction) Recipient(ctx context.Context, r mail.Recipient) error {
	if err := t.tooOld(); err != nil {
		return err
	}
	if r.Address.Domain == "" { // <postmaster>, of this host (RFC 5321, section 4.1.1.3)
		a, err := mail.ParseAddress(t.in.Planner.o.Notify)
		if err != nil {
			return err
		}
		r.Address = a
	}
	if !r.Address.ASCII() && !t.envelope.UTF8 {
		return mail.Fail(553, mail.Enhanced{5, 6, 7}, mail.OfRecipient, mail.ReasonCannotCarry, "the address is not ASCII; say SMTPUTF8 in MAIL FROM")
	}
	key := r.Address.Key()
	if t.named.taken(key) {
		return nil
	}
	if len(t.recipients) >= t.in.o.MaxRecipients {
		return mail.Fail(452, mail.Enhanced{4, 5, 3}, mail.OfRecipient, mail.ReasonPolicy, "too many recipients; send at most %d in one transaction", t.in.o.MaxRecipients)
	}
	t.named.note(key, false)
	r.State = mail.Queued
	n := len(t.fates)
	t.fates = append(t.fates, fateOfOne{})
	if t.view != nil {
		if err := t.askRecipient(ctx, r.Address, &t.fates[n]); err != nil {
			t.fates = t.fates[:n]
			return err
		}
	}
	t.named.note(key, true)
	t.recipients = append(t.recipients, r)
	if t.view != nil {
		t.asked = len(t.recipients)
	}
	return nil
}

// Write takes bytes of the message.
func (t *transaction) Write(p []byte) (int, error) {
	if err := t.tooOld(); err != nil {
		return 0, err
	}
	if t.draft == nil {
		t.draft = t.in.Spool.Draft()
		t.draft.Expect(t.declared)
		t.scanner = t.in.scanners.Get()
		if t.view != nil && !t.in.Planner.ways(t.view).signed {
			t.scanner.WithoutHash()
		}
	}
	if t.draft.Size()+int64(len(p)) > t.in.o.MaxSize {
		return 0, tooLarge(t.in.o.MaxSize)
	}
	if _, err := t.scanner.Write(p); err != nil {
		return 0, err
	}
	return t.draft.Write(p)
}

// Commit makes the message durable, or says why not; either way the
// transaction has ended.
func (t *transaction) Commit(ctx context.Context) (Receipt, error) {
	r, err := t.accept(ctx)
	kept := err == nil && !r.Repeated
	if kept {
		r.Limits = t.standings.list()
		r.Warnings = append(r.Warnings, limitWords(r.Limits, t.clock())...)
	}
	t.recordEnd(r, err)
	t.end(kept)
	return r, err
}

// Abort drops everything and gives back what was reserved.
func (t *transaction) Abort() { t.end(false) }

func (t *transaction) end(kept bool) {
	if t.done {
		return
	}
	t.done = true
	t.recording.r.End(t.recording.end)
	t.recording.r = nil
	if !kept {
		t.reservation.Abort(t.clock())
	}
	if t.habit != nil {
		t.habit.Drop() // unless it was taken
	}
	if t.bulkCount != nil && kept {
		t.bulkCount.Commit()
	} else if t.bulkCount != nil {
		t.bulkCount.Abort()
	}
	if !kept && t.draft != nil {
		t.draft.Discard()
	}
	if t.scanner != nil {
		t.in.scanners.Put(t.scanner)
		t.scanner = nil
	}
	t.tellLimits(kept)
}

// nameTenant takes the tenant that came with the message. Only a platform
// credential's word counts; anybody else may at most repeat its own name, and
// is refused otherwise: its message shall not go out for a tenant it did not
// mean.
func (t *transaction) nameTenant(ctx context.Context, name string) error {
	c := t.p.credential
	if t.view != nil {
		if t.view.Tenant.Name != name {
			return notYours(c, name)
		}
		return nil
	}
	v, err := t.in.actFor(ctx, t.client, c, name)
	if err != nil {
		return err
	}
	t.view = v
	return nil
}
