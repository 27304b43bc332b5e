package spool

import (
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"behalf/internal/kv"
	"behalf/mail"
)

// codec turns records into CBOR and back. Times are kept to the microsecond.
// Strings need not be UTF-8: what a peer answered is stored as it came, and a
// stray octet must not make a record unreadable.
type codec struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

func newCodec() (codec, error) {
	enc, err := cbor.EncOptions{Time: cbor.TimeUnixDynamic}.EncMode()
	if err != nil {
		return codec{}, err
	}
	dec, err := cbor.DecOptions{UTF8: cbor.UTF8DecodeInvalid}.DecMode()
	return codec{enc, dec}, err
}

// chunkSize is how many recipients share a row.
const chunkSize = 64

func (c codec) encode(what string, v any) ([]byte, error) {
	b, err := c.enc.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("spool: encode %s: %w", what, err)
	}
	if len(b) > kv.MaxValue {
		return nil, fmt.Errorf("spool: %s of %d octets is larger than the %d that can be stored: %w", what, len(b), kv.MaxValue, kv.ErrTooBig)
	}
	return b, nil
}

func (c codec) decodeRecipients(value []byte) ([]mail.Recipient, error) {
	var rs []mail.Recipient
	if err := c.dec.Unmarshal(value, &rs); err != nil {
		return nil, fmt.Errorf("spool: decode recipients: %w", err)
	}
	if len(rs) > chunkSize {
		return nil, fmt.Errorf("spool: decode recipients: %d in one row", len(rs))
	}
	for i := range rs {
		r := &rs[i]
		micros(&r.Next, &r.Trouble, &r.Done, &r.NotBefore)
	}
	return rs, nil
}

func (c codec) decodeMessage(value []byte) (*mail.Message, error) {
	m := new(mail.Message)
	if err := c.dec.Unmarshal(value, m); err != nil {
		return nil, fmt.Errorf("spool: decode message: %w", err)
	}
	micros(&m.Accepted, &m.NotBefore, &m.Expires)
	return m, nil
}

func (c codec) decodeEvent(key, value []byte) (mail.Event, error) {
	var e mail.Event
	if err := c.dec.Unmarshal(value, &e); err != nil {
		return mail.Event{}, fmt.Errorf("spool: decode event %d: %w", seqOf(key), err)
	}
	e.Seq = seqOf(key)
	micros(&e.At, &e.Next)
	if e.Attempt != nil {
		micros(&e.Attempt.At)
	}
	return e, nil
}

// micros undoes the noise that a fraction of a second picks up as a float.
func micros(ts ...*time.Time) {
	for _, t := range ts {
		if !t.IsZero() {
			*t = t.Round(time.Microsecond).UTC()
		}
	}
}
