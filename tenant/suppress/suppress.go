// Package suppress is the list of addresses that a tenant must not mail again
// in a stream, with the reason for each.
package suppress

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"behalf/internal/kv"
	"behalf/mail"
)

// Reason says how an address came onto the list.
type Reason string

// The reasons that exist so far.
const (
	Unsubscribed Reason = "unsubscribed" // the recipient said so, by one click
	Manual       Reason = "manual"       // an operator or the tenant's app said so
)

// Entry is one address on a tenant's list.
type Entry struct {
	Stream  string    `json:"stream" cbor:"-"`
	Address string    `json:"address" cbor:"-"`
	Reason  Reason    `json:"reason" cbor:"1,keyasint"`
	Added   time.Time `json:"added" cbor:"2,keyasint"`
	Message mail.ID   `json:"message,omitzero" cbor:"3,keyasint,omitempty"` // that gave the occasion
	By      string    `json:"by,omitempty" cbor:"4,keyasint,omitempty"`
}

// prefix begins every key.
const prefix = "s/"

// key is s/T/stream NUL address. A stream's name holds no NUL, nor does an
// address's key.
func key(t mail.TenantID, stream, address string) []byte {
	b := make([]byte, 0, 8+len(stream)+len(address))
	return append(appendStream(b, t, stream), address...)
}

// appendStream appends what the keys of a stream begin with.
func appendStream(b []byte, t mail.TenantID, stream string) []byte {
	b = append(b, prefix...)
	b = binary.BigEndian.AppendUint32(b, uint32(t))
	b = append(b, stream...)
	return append(b, 0)
}

func encode(e *Entry) ([]byte, error) {
	b, err := cbor.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encoding a suppression: %w", err)
	}
	return b, nil
}

// Remove takes an address off the list; one that is not there is no error.
func Remove(w kv.Writer, t mail.TenantID, stream string, a mail.Address) error {
	return w.Delete(key(t, stream, a.Key()))
}

// Find tells whether and why t must not mail a in a stream; nil when it may.
func Find(r interface {
	Get(key []byte) ([]byte, error)
}, t mail.TenantID, stream string, a mail.Address) (*Entry, error) {
	b, err := r.Get(key(t, stream, a.Key()))
	if errors.Is(err, kv.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e := &Entry{Stream: stream, Address: a.Key()}
	if err := cbor.Unmarshal(b, e); err != nil {
		return nil, fmt.Errorf("reading the suppression of %s: %w", a, err)
	}
	return e, nil
}

// List gives up to limit entries of t in the order of stream and address, from
// a cursor that an earlier call gave ("" for the start). The next cursor is ""
// at the end.
func List(ctx context.Context, st kv.Store, t mail.TenantID, cursor string, limit int) (es []Entry, next string, err error) {
	prefix := key(t, "", "")
	prefix = prefix[:len(prefix)-1]
	from := append([]byte{}, prefix...)
	from = append(from, cursor...)
	err = st.View(ctx, func(r kv.Reader) error {
		var bad error
		err := r.Scan(kv.Range{Prefix: prefix, From: from}, func(k, v []byte) bool {
			rest := string(k[len(prefix):])
			if len(es) == limit {
				next = rest
				return false
			}
			stream, address, _ := strings.Cut(rest, "\x00")
			e := Entry{Stream: stream, Address: address}
			if bad = cbor.Unmarshal(v, &e); bad != nil {
				return false
			}
			es = append(es, e)
			return true
		})
		return errors.Join(err, bad)
	})
	return es, next, err
}
