package outcome

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"behalf/internal/kv"
	"behalf/mail"
	"behalf/mail/dsn"
	"behalf/spool"
)

// row is one fact to report.
type row struct {
	Message    mail.ID    `cbor:"1,keyasint"`
	Action     dsn.Action `cbor:"2,keyasint"`
	Recipients []int      `cbor:"3,keyasint,omitempty"` // none: all
	At         time.Time  `cbor:"4,keyasint"`
	Reply      string     `cbor:"5,keyasint,omitempty"`
	Host       string     `cbor:"6,keyasint,omitempty"`
	Tries      int        `cbor:"7,keyasint,omitempty"` // reports that could not be made

	key []byte
}

// rowPrefix begins the rows of this follower; after it come the time at which
// the row is due, and the number of its event.
var rowPrefix = []byte("w/notice/")

func rowKey(due time.Time, seq uint64) []byte {
	k := append([]byte{}, rowPrefix...)
	k = binary.BigEndian.AppendUint64(k, uint64(due.UnixMilli()))
	return binary.BigEndian.AppendUint64(k, seq)
}

// rowSeq is the number of a row's event.
func rowSeq(key []byte) uint64 {
	if len(key) < len(rowPrefix)+16 {
		return 0
	}
	return binary.BigEndian.Uint64(key[len(rowPrefix)+8:])
}

func rowDue(key []byte) time.Time {
	if len(key) < len(rowPrefix)+8 {
		return time.Time{}
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(key[len(rowPrefix):])))
}

// gather is how long rows of one message wait for each other, so that fifty
// refused recipients make one report.
const gather = 5 * time.Second

// reportDelay is the age from which a delay is worth a report (RFC 3464 calls
// for one, patience calls for no more).
const reportDelay = 4 * time.Hour

// Choice is the events that Handle is for.
func Choice() spool.Choice {
	return spool.Choice{Types: []mail.EventType{mail.EventFailed, mail.EventExpired, mail.EventDelivered, mail.EventDelayed}, Asked: true}
}

// Handle is the follower: it notes the facts that may have to be reported. A
// row is due by the time of its writing, not by that of its event, so that no
// row ever appears before one that the worker has passed.
func Handle(w kv.Writer, events []mail.Event) error {
	due := time.Now().Add(gather)
	for _, e := range events {
		r, ok := rowOf(e)
		if !ok {
			continue
		}
		if err := r.put(w, rowKey(due, e.Seq)); err != nil {
			return err
		}
	}
	return nil
}

func (r row) put(w kv.Writer, key []byte) error {
	b, err := cbor.Marshal(r)
	if err != nil {
		return fmt.Errorf("encoding a notice: %w", err)
	}
	return w.Put(key, b)
}

// rowOf picks the events that somebody may want to hear of. Whether anybody
// does is for the worker to say, who can read the message.
func rowOf(e mail.Event) (row, bool) {
	r := row{Message: e.Message, Recipients: e.Recipients, At: e.At}
	switch e.Type {
	case mail.EventFailed, mail.EventExpired:
		r.Action = dsn.Failed
	case mail.EventDelivered:
		if !e.Success {
			return r, false
		}
		r.Action = dsn.Relayed
	case mail.EventDelayed:
		if e.At.Sub(e.Message.Time()) < reportDelay { // the worker looks closer
			return r, false
		}
		r.Action = dsn.Delayed
	default:
		return r, false
	}
	if e.Attempt != nil {
		r.Reply, r.Host = e.Attempt.Reply, e.Attempt.Host
	}
	return r, true
}
