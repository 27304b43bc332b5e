package spool

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"behalf/internal/blob"
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

// head is what a message has once: it stands before the first recipients, so
// that most settles read and write one row. Times are in milliseconds.
type head struct {
	Body     blob.Ref  `cbor:"1,keyasint"`
	Gone     bool      `cbor:"2,keyasint,omitempty"` // the body was dropped
	Total    int       `cbor:"3,keyasint"`           // recipients
	Tally    tally     `cbor:"4,keyasint"`           // how many recipients are in each shown state
	Base     int64     `cbor:"5,keyasint"`           // when it was first due: accepted or not-before
	Expires  int64     `cbor:"6,keyasint,omitempty"`
	Told     int       `cbor:"7,keyasint,omitempty"` // delays that were told
	Done     int64     `cbor:"8,keyasint,omitempty"` // when the last recipient became final
	Timer    int64     `cbor:"9,keyasint,omitempty"` // the row in the timer index, 0: none
	What     TimerKind `cbor:"10,keyasint,omitempty"`
	Releases []release `cbor:"11,keyasint,omitempty"`
	Events   []byte    `cbor:"12,keyasint,omitempty"` // numbers, each as its distance to the one before
}

// release says when the first held recipient of a chunk frees itself.
type release struct {
	_     struct{} `cbor:",toarray"`
	Chunk int
	At    int64
}

func (h *head) chunks() int { return (h.Total + chunkSize - 1) / chunkSize }

// chunkSize is how many recipients share a row.
const chunkSize = 64

func (c codec) encode(what string, v any) ([]byte, error) {
	b, err := c.enc.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("spool: encode %s: %w", what, err)
	}
	if len(b) > kv.MaxValue {
		return nil, fmt.Errorf("spool: %s of %d octets is larger than the %d that can be stored", what, len(b), kv.MaxValue)
	}
	return b, nil
}

// decodeHead reads the head and returns the recipients behind it, still encoded.
func (c codec) decodeHead(value []byte) (h head, rest []byte, err error) {
	if rest, err = c.dec.UnmarshalFirst(value, &h); err != nil {
		return head{}, nil, fmt.Errorf("spool: decode head: %w", err)
	}
	if h.Total < 1 || h.Total > MaxRecipients {
		return head{}, nil, fmt.Errorf("spool: decode head: %d recipients", h.Total)
	}
	return h, rest, nil
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
		micros(&r.Next, &r.Trouble, &r.Done)
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

// The timeline keeps the first numbers of a message and the last ones.
const (
	keepFirst = 50
	keepLast  = 450
)

// addEvents appends numbers to an encoded list of them and drops from the
// middle what is too much.
func addEvents(list []byte, seqs ...uint64) []byte {
	all := append(eventNumbers(list), seqs...)
	if over := len(all) - keepFirst - keepLast; over > 0 {
		all = append(all[:keepFirst], all[keepFirst+over:]...)
	}
	out := make([]byte, 0, len(list)+3*len(seqs)+8)
	var last uint64
	for _, n := range all {
		out = binary.AppendUvarint(out, n-last)
		last = n
	}
	return out
}

// eventNumbers reads an encoded list, up to the first flaw.
func eventNumbers(list []byte) []uint64 {
	var all []uint64
	var last uint64
	for len(list) > 0 {
		d, n := binary.Uvarint(list)
		if n <= 0 {
			break
		}
		list, last = list[n:], last+d
		all = append(all, last)
	}
	return all
}
