// Package kv is ordered keys and small values with one committer: the whole
// data model of the relay stands on this interface and on nothing else of its
// engines. Keys sort as bytes. What an Update wrote is on stable storage when
// it returns nil.
package kv

import (
	"context"
	"errors"
	"io"
	"time"
)

var (
	// ErrNotFound is returned by Get for a key that is not there.
	ErrNotFound = errors.New("kv: not found")
	// ErrTooBig is returned by an Update whose writes alone exceed what the
	// engine can commit at once.
	ErrTooBig = errors.New("kv: transaction too big")
	// ErrClosed is returned after Close, and to those who waited when it came.
	ErrClosed = errors.New("kv: closed")
)

// MaxValue is the largest value that every engine takes, in bytes.
const MaxValue = 512 << 10

// MaxKey is the longest key, in bytes.
const MaxKey = 1024

// Reader sees one consistent state of the store.
type Reader interface {
	// Get gives the value of key, or ErrNotFound. The slice is valid until the
	// function it was got in returns, and must not be changed.
	Get(key []byte) ([]byte, error)
	// Scan calls fn for the keys of r in order, until fn returns false. Slices
	// are valid until fn returns.
	Scan(r Range, fn func(key, value []byte) bool) error
}

// Range says what a Scan visits: the keys that begin with Prefix, from From on
// (From is itself included; nil means the first). Reverse goes downwards, from
// From (or the last key) on. Value is nil with KeysOnly.
type Range struct {
	Prefix, From []byte
	Reverse      bool
	KeysOnly     bool
}

// Writer is one transaction. It reads what it wrote. It must do no I/O and
// may be run again, so it must not change anything outside but what it resets
// itself at its start.
type Writer interface {
	Get(key []byte) ([]byte, error)
	Put(key, value []byte) error
	// PutNew is Put where the function knows that the key is not there, as by
	// its own Get or by an id that is: an engine then need not look for the key
	// when it is deleted soon.
	PutNew(key, value []byte) error
	// PutFor is Put with a life time, after which the key is gone.
	PutFor(key, value []byte, life time.Duration) error
	Delete(key []byte) error
	// Needs says that what the function writes is of no use without d, which is
	// outside of the store. The outcome is told when d is on stable storage too,
	// and after a crash the writes are only there if d is. When d fails, so does
	// the store: whoever can find that out before should.
	Needs(d Durable)
}

// MaxToken is the longest token of a Durable, in bytes.
const MaxToken = 256

// Durable is something outside of the store that is on its way to stable
// storage, such as the body of a message.
type Durable interface {
	// Wait returns when it is on stable storage, or why it is not.
	Wait() error
	// Token says what it is, to whoever is asked after a crash whether it is
	// there.
	Token() []byte
}

// Store is an engine. All methods may be called from many goroutines.
type Store interface {
	// View runs fn over one consistent state. A view should last for seconds at
	// most: page long scans.
	View(ctx context.Context, fn func(Reader) error) error
	// Update runs fn in a transaction that is merged with those of other
	// callers into one synced commit. Functions run one after the other, each
	// seeing the writes of those before it; an error or panic of one takes back
	// its own writes only. Nil means that the writes are on stable storage. If
	// ctx ends before fn was started, fn is not run.
	Update(ctx context.Context, fn func(Writer) error) error
	// Go joins the next commit without waiting: done is called with the
	// outcome, from the committer, and must not block. It may itself wait up to
	// 2 ms for company, but never makes an Update wait. When the queue of such
	// functions is full, Go blocks.
	Go(fn func(Writer) error, done func(error))
	// Backup writes a consistent copy, in the engine's own format.
	Backup(ctx context.Context, w io.Writer) error
	// Failed is closed when a commit had an unknown outcome or the engine broke:
	// the process must end and recover.
	Failed() <-chan struct{}
	// Close waits for the commits under way.
	Close() error
}
