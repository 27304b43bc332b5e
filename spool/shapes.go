package spool

import (
	"behalf/internal/cbor"
	"behalf/mail"
)

// The shapes of what is stored as CBOR. The numbers are those of the cbor tags
// in package mail: rows are on people's disks, so a number is never used for
// anything else. Fields stand in ascending order.

func shapeMessage(r *record, m *mail.Message) {
	at, outer := r.begin()
	r.fixed(1, m.ID[:])
	number(r, 2, must, &m.Tenant)
	text(r, 3, may, &m.Credential)
	text(r, 4, must, &m.Door)
	text(r, 5, must, &m.Stream)
	if r.field(6) {
		shapeEnvelope(r, &m.Envelope)
	}
	if r.field(7) {
		shapeAddress(r, &m.From)
	}
	text(r, 8, may, &m.FromName)
	text(r, 9, may, &m.Subject)
	text(r, 10, must, &m.MessageID)
	number(r, 11, must, &m.Size)
	number(r, 12, must, &m.HeaderSize)
	r.octets(13, &m.Front)
	list(r, 14, may, &m.Edits, shapeEdit)
	r.fixed(15, m.BodyHash[:])
	if r.field(16) {
		shapeForm(r, &m.Body)
	}
	text(r, 17, may, &m.Tag)
	list(r, 18, may, &m.Tags, textItem)
	r.pairs(19, &m.Metadata)
	r.time(20, must, &m.Accepted)
	r.time(21, may, &m.NotBefore)
	r.time(22, must, &m.Expires)
	list(r, 23, must, &m.Wishes, shapeWish)
	r.flag(24, may, &m.FromChange)
	text(r, 25, may, &m.ReplyTo)
	r.flag(26, may, &m.Verp)
	r.flag(27, may, &m.Unsubscribe)
	r.end(at, outer)
}

func shapeEnvelope(r *record, e *mail.Envelope) {
	at, outer := r.begin()
	if r.field(1) {
		shapeAddress(r, &e.From)
	}
	text(r, 2, may, &e.EnvID)
	text(r, 3, may, &e.Ret)
	r.flag(4, may, &e.UTF8)
	r.flag(5, may, &e.EightBit)
	r.flag(6, may, &e.Binary)
	r.flag(7, may, &e.RequireTLS)
	r.end(at, outer)
}

func shapeAddress(r *record, a *mail.Address) {
	at, outer := r.begin()
	text(r, 1, must, &a.Local)
	text(r, 2, must, &a.Domain)
	r.end(at, outer)
}

func shapeEdit(r *record, e *mail.Edit) {
	at, outer := r.begin()
	number(r, 1, must, &e.Op)
	text(r, 2, must, &e.Name)
	text(r, 3, may, &e.Value)
	r.end(at, outer)
}

func shapeForm(r *record, f *mail.BodyForm) {
	at, outer := r.begin()
	r.flag(1, may, &f.EightBit)
	r.flag(2, may, &f.UTF8)
	r.flag(3, may, &f.Long)
	r.flag(4, may, &f.Binary)
	r.flag(5, may, &f.Sealed)
	r.flag(6, may, &f.Undotted)
	r.end(at, outer)
}

func shapeWish(r *record, w *mail.Wish) {
	at, outer := r.begin()
	text(r, 1, must, &w.Upstream)
	list(r, 2, must, &w.Methods, textItem)
	r.end(at, outer)
}

func shapeRecipient(r *record, to *mail.Recipient) {
	at, outer := r.begin()
	if r.field(1) {
		shapeAddress(r, &to.Address)
	}
	text(r, 2, may, &to.ORcpt)
	number(r, 3, may, &to.Notify)
	text(r, 4, must, &to.State)
	number(r, 5, may, &to.Wish)
	number(r, 6, may, &to.Tries)
	text(r, 7, may, &to.Lane)
	r.time(8, may, &to.Next)
	optional(r, 9, &to.Last, shapeFailure)
	r.time(10, may, &to.Trouble)
	r.flag(11, may, &to.Pinned)
	text(r, 12, may, &to.Reason)
	number(r, 13, may, &to.Step)
	r.time(14, may, &to.Done)
	r.time(15, may, &to.NotBefore)
	text(r, 16, may, &to.HeldBy)
	text(r, 17, may, &to.Rule)
	r.end(at, outer)
}

func shapeFailure(r *record, f *mail.Failure) {
	at, outer := r.begin()
	number(r, 1, must, &f.Code)
	if r.field(2) {
		shapeEnhanced(r, &f.Enhanced)
	}
	text(r, 3, must, &f.Text)
	number(r, 4, must, &f.Scope)
	text(r, 5, must, &f.Reason)
	number(r, 6, may, &f.Stage)
	text(r, 7, may, &f.Remote)
	text(r, 8, may, &f.Reply)
	number(r, 9, may, &f.RetryAfter)
	r.end(at, outer)
}

func shapeEnhanced(r *record, e *mail.Enhanced) {
	if !r.read {
		r.put(cbor.Array, uint64(len(e)))
	} else if r.get(cbor.Array) != uint64(len(e)) {
		r.give()
	}
	for i := range e {
		numberItem(r, &e[i])
	}
}

// shapeEvent leaves the number out: it is in the key.
func shapeEvent(r *record, e *mail.Event) {
	at, outer := r.begin()
	shapeStart(r, e)
	list(r, 5, may, &e.Recipients, numberItem)
	optional(r, 6, &e.Accepted, shapeAcceptance)
	optional(r, 7, &e.Attempt, shapeAttempt)
	r.time(8, may, &e.Next)
	text(r, 9, may, &e.Reason)
	text(r, 10, may, &e.Actor)
	text(r, 11, may, &e.Related)
	r.flag(12, may, &e.Success)
	number(r, 13, may, &e.Tenant)
	optional(r, 14, &e.Limit, shapeLimit)
	r.end(at, outer)
}

func shapeStart(r *record, e *mail.Event) {
	var none uint64
	number(r, 1, must, &none)
	r.time(2, must, &e.At)
	text(r, 3, must, &e.Type)
	r.fixed(4, e.Message[:])
}

func shapeAttempt(r *record, a *mail.Attempt) {
	at, outer := r.begin()
	r.time(1, must, &a.At)
	number(r, 2, must, &a.Took)
	number(r, 3, may, &a.Wish)
	text(r, 4, must, &a.Upstream)
	text(r, 5, may, &a.Method)
	text(r, 6, may, &a.Host)
	text(r, 7, may, &a.Addr)
	text(r, 8, may, &a.TLS)
	text(r, 9, may, &a.Reply)
	text(r, 10, may, &a.From)
	list(r, 11, may, &a.Signed, textItem)
	optional(r, 12, &a.Failure, shapeFailure)
	r.end(at, outer)
}

func shapeLimit(r *record, l *mail.LimitEvent) {
	at, outer := r.begin()
	text(r, 1, must, &l.Rule)
	list(r, 2, must, &l.Key, textItem)
	text(r, 3, must, &l.Count)
	r.float(4, &l.Rate)
	text(r, 5, must, &l.Per)
	number(r, 6, must, &l.Used)
	number(r, 7, must, &l.Allowed)
	number(r, 8, must, &l.Percent)
	r.time(9, may, &l.Reset)
	r.flag(10, may, &l.Shared)
	r.end(at, outer)
}

func shapeAcceptance(r *record, a *mail.Acceptance) {
	at, outer := r.begin()
	text(r, 1, may, &a.Client)
	text(r, 2, may, &a.Helo)
	text(r, 3, may, &a.TLS)
	list(r, 4, may, &a.Policy, shapeRuling)
	list(r, 5, may, &a.Choices, shapeChoice)
	if r.field(6) {
		shapeAlignment(r, &a.Alignment)
	}
	r.end(at, outer)
}

func shapeRuling(r *record, p *mail.Ruling) {
	at, outer := r.begin()
	text(r, 1, must, &p.Package)
	text(r, 2, must, &p.Decision)
	list(r, 3, may, &p.Rules, textItem)
	text(r, 4, may, &p.Detail)
	text(r, 5, may, &p.Digest)
	text(r, 6, may, &p.About)
	list(r, 7, may, &p.Tags, textItem)
	list(r, 8, may, &p.Warnings, textItem)
	list(r, 9, may, &p.Rewrites, textItem)
	r.end(at, outer)
}

func shapeChoice(r *record, c *mail.Choice) {
	at, outer := r.begin()
	text(r, 1, must, &c.Upstream)
	text(r, 2, must, &c.Method)
	r.flag(3, must, &c.Holds)
	r.flag(4, may, &c.Chosen)
	text(r, 5, must, &c.Why)
	r.end(at, outer)
}

func shapeAlignment(r *record, a *mail.Alignment) {
	at, outer := r.begin()
	text(r, 1, must, &a.From)
	text(r, 2, must, &a.SPF)
	text(r, 3, must, &a.DKIM)
	text(r, 4, must, &a.DMARC)
	r.end(at, outer)
}
