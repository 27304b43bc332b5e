package spool

import (
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"behalf/internal/kv"
	"behalf/mail"
)

// codec turns records into CBOR and back: by the shapes of shapes.go, and by a
// library what they do not know. Times are kept to the microsecond. Strings
// need not be UTF-8: what a peer answered is stored as it came, and a stray
// octet must not make a record unreadable.
type codec struct{ dec cbor.DecMode }

func newCodec() (codec, error) {
	dec, err := cbor.DecOptions{UTF8: cbor.UTF8DecodeInvalid}.DecMode()
	return codec{dec}, err
}

// chunkSize is how many recipients share a row.
const chunkSize = 64

// appendMessage encodes m behind b.
func (r *record) appendMessage(b []byte, m *mail.Message) []byte {
	*r = record{b: b}
	shapeMessage(r, m)
	return r.written()
}

// appendRecipients encodes the recipients of a row behind b.
func (r *record) appendRecipients(b []byte, rs []mail.Recipient) []byte {
	*r = record{b: b}
	listItems(r, &rs, shapeRecipient)
	return r.written()
}

// appendEvent encodes e behind b, without its number.
func (r *record) appendEvent(b []byte, e *mail.Event) []byte {
	*r = record{b: b}
	shapeEvent(r, e)
	return r.written()
}

// written gives what was written and keeps nothing of it.
func (r *record) written() []byte {
	b := r.b
	*r = record{}
	return b
}

// fits says that a value cannot be stored for its size.
func fits(what string, size int) error {
	if size > kv.MaxValue {
		return fmt.Errorf("spool: %s of %d octets is larger than the %d that can be stored: %w", what, size, kv.MaxValue, kv.ErrTooBig)
	}
	return nil
}

// decodeRecipients reads a row of recipients that are kept.
func (c codec) decodeRecipients(value []byte) ([]mail.Recipient, error) {
	var r record
	rs, err := c.readRecipients(&r, value, nil)
	var last mail.Lane
	for i := range rs {
		to := &rs[i]
		apart(&to.Lane, last) // lanes are kept in maps
		last = to.Lane
	}
	return rs, err
}

// readRecipients reads a row of recipients, with a record and room that are
// used again.
func (c codec) readRecipients(r *record, value []byte, rs []mail.Recipient) ([]mail.Recipient, error) {
	*r = reader(value)
	if listItems(r, &rs, shapeRecipient); !r.ended() {
		rs = nil
		if err := c.dec.Unmarshal(value, &rs); err != nil {
			return nil, fmt.Errorf("spool: decode recipients: %w", err)
		}
	}
	if len(rs) > chunkSize {
		return nil, fmt.Errorf("spool: decode recipients: %d in one row", len(rs))
	}
	for i := range rs {
		to := &rs[i]
		micros(&to.Next, &to.Trouble, &to.Done, &to.NotBefore)
	}
	return rs, nil
}

func (c codec) decodeMessage(value []byte) (*mail.Message, error) {
	m := new(mail.Message)
	r := reader(value)
	if shapeMessage(&r, m); !r.ended() {
		m = new(mail.Message)
		if err := c.dec.Unmarshal(value, m); err != nil {
			return nil, fmt.Errorf("spool: decode message: %w", err)
		}
	}
	micros(&m.Accepted, &m.NotBefore, &m.Expires)
	return m, nil
}

func (c codec) decodeEvent(key, value []byte) (mail.Event, error) {
	return c.event(seqOf(key), value)
}

func (c codec) event(seq uint64, value []byte) (mail.Event, error) {
	var e mail.Event
	r := reader(value)
	if shapeEvent(&r, &e); !r.ended() {
		e = mail.Event{}
		if err := c.dec.Unmarshal(value, &e); err != nil {
			return mail.Event{}, fmt.Errorf("spool: decode event %d: %w", seq, err)
		}
	}
	e.Seq = seq
	micros(&e.At, &e.Next)
	if e.Attempt != nil {
		micros(&e.Attempt.At)
	}
	if e.Limit != nil {
		micros(&e.Limit.Reset)
	}
	return e, nil
}

// peekLength is more than time, type and message of an event take.
const peekLength = 96

// peekEvent reads what an event begins with: time, type and message.
func peekEvent(value []byte) (e mail.Event, ok bool) {
	r := reader(value[:min(len(value), peekLength)])
	r.begin()
	shapeStart(&r, &e)
	return e, !r.odd && e.Type != "" && !e.Message.IsZero()
}

// micros undoes the noise that a fraction of a second picks up as a float.
func micros(ts ...*time.Time) {
	for _, t := range ts {
		if !t.IsZero() {
			*t = t.Round(time.Microsecond).UTC()
		}
	}
}
