package journal

import (
	"fmt"
	"time"

	"behalf/internal/cbor"
	"behalf/mail"
	"behalf/policy"
)

// Entry is one transaction, or a part of one with many recipients.
type Entry struct {
	// Transaction is the same for all parts of one, and no other's.
	Transaction uint64
	Part        int // from 0
	// End tells how the transaction ended; nil in all parts but the last.
	End *End

	Time       time.Time // when the transaction began
	Digest     string    // of the set that was asked
	Needs      policy.Needs
	Session    *policy.Session
	Tenant     *policy.Tenant
	Credential *policy.Credential
	Asks       []Ask
}

// End is how a transaction ended.
type End struct {
	// Accepted is set when the message was taken; Message is then its id.
	Accepted bool
	Message  mail.ID
	// Code is what the client was told instead, 0 when it went away; Reason is
	// the failure's.
	Code   int
	Reason string
}

// Ask is one question with its answer. One of the inputs is set.
type Ask struct {
	Sender    *policy.SenderInput
	Recipient *policy.RecipientInput
	Message   *policy.MessageInput

	Decision policy.Decision
	Err      string // why there was no decision
}

// Common is what every stage sees.
func (a *Ask) Common() *policy.SenderInput {
	switch {
	case a.Recipient != nil:
		return &a.Recipient.SenderInput
	case a.Message != nil:
		return &a.Message.SenderInput
	}
	return a.Sender
}

// Package is the stage that was asked.
func (a *Ask) Package() string {
	switch {
	case a.Recipient != nil:
		return policy.PackageRecipient
	case a.Message != nil:
		return policy.PackageMessage
	}
	return policy.PackageSender
}

// The stages as they are written.
const (
	stageSender uint8 = iota + 1
	stageRecipient
	stageMessage
)

// head is the shape of what an entry begins with; asks of them follow.
func head(c *cborItems, e *Entry, asks *int) {
	c.fields(10)
	number(c, &e.Transaction)
	number(c, &e.Part)
	pointer(c, &e.End, end)
	moment(c, &e.Time)
	text(c, &e.Digest)
	needs(c, &e.Needs)
	pointer(c, &e.Session, session)
	pointer(c, &e.Tenant, tenant)
	pointer(c, &e.Credential, credential)
	number(c, asks)
}

// An ask is its stage, usage, what was said at MAIL, counts, the stage's own
// input, decision and error. What the head says is left out of the input, and
// the set's digest of the decision. What is that of the ask before in the same
// entry, as most is, is undefined.
const askFields = 7

// decode reads an entry as [Record] wrote it.
func decode(b []byte) (*Entry, error) {
	c := &cborItems{b: b, read: true}
	e := new(Entry)
	asks := 0
	head(c, e, &asks)
	if c.err != nil {
		return nil, fmt.Errorf("the head: %w", c.err)
	}
	if asks < 0 || asks > len(c.b) {
		return nil, fmt.Errorf("it has %d octets for %d questions", len(c.b), asks)
	}
	before := Ask{Sender: new(policy.SenderInput)}
	for n := range asks {
		a := decodeAsk(c, &before)
		if c.err != nil {
			return nil, fmt.Errorf("question %d: %w", n+1, c.err)
		}
		in := a.Common()
		in.Session, in.Tenant, in.Credential, a.Decision.Digest = e.Session, e.Tenant, e.Credential, e.Digest
		e.Asks, before = append(e.Asks, a), a
	}
	if len(c.b) > 0 {
		return nil, fmt.Errorf("%d octets are left over", len(c.b))
	}
	return e, nil
}

func decodeAsk(c *cborItems, before *Ask) (a Ask) {
	in := *before.Common()
	var stage uint8
	c.fields(askFields)
	number(c, &stage)
	if !c.simple(cbor.Undefined) {
		in.Usage = nil
		pointer(c, &in.Usage, usage)
	}
	if !c.simple(cbor.Undefined) {
		begun(c, &in)
	}
	counts(c, &in.Envelope)
	switch stage {
	case stageSender:
		a.Sender = &in
		if !c.simple(cbor.Null) {
			c.fail(errShape)
		}
	case stageRecipient:
		a.Recipient = &policy.RecipientInput{SenderInput: in}
		recipient(c, &a.Recipient.Recipient)
	case stageMessage:
		a.Message = &policy.MessageInput{SenderInput: in}
		message(c, a.Message)
	default:
		c.fail(fmt.Errorf("stage %d is not known", stage))
	}
	if c.simple(cbor.Undefined) {
		a.Decision = before.Decision
	} else {
		decision(c, &a.Decision)
	}
	text(c, &a.Err)
	return a
}
