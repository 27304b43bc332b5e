// Package blob keeps message bodies. A body is written once, found again by
// its Ref, and deleted; it never changes. Small bodies share append-only
// segments, which are synced in groups; a large body is a file of its own.
package blob

import (
	"context"
	"errors"
	"io"
)

// ErrCorrupt is returned when stored bytes do not match their checksum, or the
// Ref points at nothing.
var ErrCorrupt = errors.New("blob: corrupt or missing")

// ErrFull is returned when the disk has less than the reserve left.
var ErrFull = errors.New("blob: disk nearly full")

// Owner is the 16-byte name (a message id) that is stored beside a body, so
// that reclaim can ask whether it still lives.
type Owner [16]byte

// Ref says where a body is. It is stored by the owner and opaque to it.
type Ref struct {
	Segment uint64 `cbor:"1,keyasint"` // 0: a file of its own, named by the owner
	Offset  int64  `cbor:"2,keyasint,omitempty"`
	Size    int64  `cbor:"3,keyasint"` // octets of the body
}

// Body is a stored body, open for reading.
type Body interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Source is what Put stores: a body gathered in memory or in a temporary file.
type Source interface {
	io.WriterTo
	Size() int64
}

// Pending is a body that is not known to be on stable storage yet. It is a
// kv.Durable.
type Pending interface {
	// Wait returns when the body would survive a power cut, or why it may not.
	Wait() error
	// Err is what Wait would return, if that is known already, and else nil.
	Err() error
	// Token names the body to the store after a crash.
	Token() []byte
}

// Store is a place for bodies. All methods may be called from many goroutines.
type Store interface {
	// Put stores a body and returns once it would survive a power cut.
	Put(ctx context.Context, owner Owner, body Source) (Ref, error)
	// Begin is Put without the wait. The body is placed and written when it
	// returns, and p tells when it would survive a power cut; nil: it would
	// already. What fails before the sync is told here.
	Begin(ctx context.Context, owner Owner, body Source) (ref Ref, p Pending, err error)
	// Open opens a body; small ones are read whole and checked.
	Open(ctx context.Context, owner Owner, ref Ref) (Body, error)
	// Delete says that the owner no longer needs the body; the space is
	// reclaimed in time. Deleting what is not there is no error.
	Delete(owner Owner, ref Ref) error
	// Reclaim frees the space of deleted bodies once: it drops segments with
	// nothing alive in them, and moves what lives out of those that are mostly
	// dead. alive tells whether the owner still has this ref; move stores the
	// new ref durably, or returns false when the owner is gone.
	Reclaim(ctx context.Context, alive func(Owner, Ref) (bool, error), move func(o Owner, from, to Ref) (bool, error)) error
	Close() error
}
