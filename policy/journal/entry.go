package journal

import (
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

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
	Accepted bool    `cbor:"1,keyasint,omitempty"`
	Message  mail.ID `cbor:"2,keyasint,omitzero"`
	// Code is what the client was told instead, 0 when it went away; Reason is
	// the failure's.
	Code   int    `cbor:"3,keyasint,omitempty"`
	Reason string `cbor:"4,keyasint,omitempty"`
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

// head is what an entry begins with; its asks follow, one item each.
type head struct {
	_           struct{} `cbor:",toarray"`
	Transaction uint64
	Part        int
	End         *End
	Time        int64 // nanoseconds since 1970
	Digest      string
	Needs       policy.Needs
	Session     *policy.Session
	Tenant      *policy.Tenant
	Credential  *policy.Credential
	Asks        int
}

// The stages as they are written.
const (
	stageSender = iota + 1
	stageRecipient
	stageMessage
)

// ask is an Ask as it is written. What the head says is left out of the input,
// and the set's digest of the decision.
type ask[T any] struct {
	_     struct{} `cbor:",toarray"`
	Stage uint8
	// Usage is missing where it is that of the ask before, which it mostly is.
	Usage    *policy.Usage
	Input    *T
	Decision *policy.Decision
	Err      string
}

// stored is an ask whose stage is to be found out.
type stored struct {
	_        struct{} `cbor:",toarray"`
	Stage    uint8
	Usage    *policy.Usage
	Input    cbor.RawMessage
	Decision policy.Decision
	Err      string
}

// codec turns entries into bytes and back.
type codec struct {
	enc cbor.UserBufferEncMode
	dec cbor.DecMode
}

func newCodec() (codec, error) {
	enc, err := cbor.EncOptions{Time: cbor.TimeRFC3339Nano}.UserBufferEncMode()
	if err != nil {
		return codec{}, err
	}
	// Text of messages need not be UTF-8.
	dec, err := cbor.DecOptions{UTF8: cbor.UTF8DecodeInvalid}.DecMode()
	return codec{enc, dec}, err
}

// decode reads an entry as [Record] wrote it.
func (c codec) decode(b []byte) (*Entry, error) {
	var h head
	rest, err := c.dec.UnmarshalFirst(b, &h)
	if err != nil {
		return nil, fmt.Errorf("the head: %w", err)
	}
	if h.Asks < 0 || h.Asks > len(rest) {
		return nil, fmt.Errorf("it has %d octets for %d questions", len(rest), h.Asks)
	}
	e := &Entry{
		Transaction: h.Transaction, Part: h.Part, End: h.End, Time: time.Unix(0, h.Time).UTC(), Digest: h.Digest, Needs: h.Needs,
		Session: h.Session, Tenant: h.Tenant, Credential: h.Credential,
	}
	var usage *policy.Usage
	for n := range h.Asks {
		var s stored
		if rest, err = c.dec.UnmarshalFirst(rest, &s); err != nil {
			return nil, fmt.Errorf("question %d: %w", n+1, err)
		}
		a := Ask{Decision: s.Decision, Err: s.Err}
		if err := c.input(&a, &s); err != nil {
			return nil, fmt.Errorf("question %d: %w", n+1, err)
		}
		if s.Usage != nil {
			usage = s.Usage
		}
		in := a.Common()
		in.Usage = usage
		in.Session, in.Tenant, in.Credential, a.Decision.Digest = h.Session, h.Tenant, h.Credential, h.Digest
		e.Asks = append(e.Asks, a)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d octets are left over", len(rest))
	}
	return e, nil
}

func (c codec) input(a *Ask, s *stored) error {
	switch s.Stage {
	case stageSender:
		a.Sender = new(policy.SenderInput)
		return c.dec.Unmarshal(s.Input, a.Sender)
	case stageRecipient:
		a.Recipient = new(policy.RecipientInput)
		return c.dec.Unmarshal(s.Input, a.Recipient)
	case stageMessage:
		a.Message = new(policy.MessageInput)
		return c.dec.Unmarshal(s.Input, a.Message)
	}
	return fmt.Errorf("stage %d is not known", s.Stage)
}
