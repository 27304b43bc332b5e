package spool

import (
	"context"
	"errors"
	"io"
	"time"

	"behalf/internal/blob"
	"behalf/internal/kv"
	"behalf/mail"
)

type buffer struct{ b []byte }

var errSkeleton = errors.New("spool: being built")

// Spool keeps the messages of one partition.
type Spool struct{}

// ErrRepeated is returned by PutIdempotency when the key is taken.
type ErrRepeated struct {
	ID   mail.ID
	Hash [32]byte // of the request that took it
}

func (e *ErrRepeated) Error() string { return "spool: idempotency key taken by " + e.ID.String() }

// TimerKind is what a Timer is for.
type TimerKind uint8

// The timers.
const (
	TimerExpire TimerKind = iota + 1
	TimerRelease
	TimerDelay
	TimerBody
	TimerPurge
)

// Timer is something due for one message.
type Timer struct {
	At   time.Time
	ID   mail.ID
	What TimerKind
}

// Stats are counts of what is stored now.
type Stats struct {
	Recipients map[mail.State]int64 // by shown state
	Messages   int64                // all that are kept
	Unfinished int64                // messages with a queued or held recipient
	Oldest     time.Time            // when the oldest queued message became due, to 10 s; zero if none
	LastEvent  uint64
}

// Draft gathers a body.
type Draft struct{}

// Open opens the spool.
func Open(ctx context.Context, st kv.Store, bodies blob.Store, o Options) (*Spool, error) {
	return nil, errSkeleton
}

func (s *Spool) NewID(t mail.TenantID, at time.Time) mail.ID { return mail.NewID(0, t, at) }
func (s *Spool) Draft() *Draft                               { return &Draft{} }

func (d *Draft) Write(p []byte) (int, error)             { return 0, errSkeleton }
func (d *Draft) Size() int64                             { return 0 }
func (d *Draft) Bytes() ([]byte, bool)                   { return nil, false }
func (d *Draft) ReadAt(p []byte, off int64) (int, error) { return 0, errSkeleton }
func (d *Draft) WriteTo(w io.Writer) (int64, error)      { return 0, errSkeleton }
func (d *Draft) Discard()                                {}

func (s *Spool) Put(ctx context.Context, d *Draft, m *mail.Message, rs []mail.Recipient, acc *mail.Acceptance, extra func(kv.Writer) error) (*Stored, error) {
	return nil, errSkeleton
}
func (st *Stored) Release()                                            {}
func (s *Spool) Settle(o Outcome, done func(error))                    {}
func (s *Spool) SettleNow(ctx context.Context, os []Outcome) error     { return errSkeleton }
func (s *Spool) Load(ctx context.Context, id mail.ID) (*Stored, error) { return nil, errSkeleton }
func (s *Spool) OpenBody(ctx context.Context, st *Stored) (blob.Body, error) {
	return nil, errSkeleton
}
func (s *Spool) Queues(ctx context.Context, fn func(q Queue, next time.Time, entries int) bool) error {
	return errSkeleton
}
func (s *Spool) Due(ctx context.Context, q Queue, after *Due, limit int) ([]Due, error) {
	return nil, errSkeleton
}
func (s *Spool) Timers(ctx context.Context, now time.Time, limit int) ([]Timer, error) {
	return nil, errSkeleton
}
func (s *Spool) DropBody(ctx context.Context, ids []mail.ID) error { return errSkeleton }
func (s *Spool) Purge(ctx context.Context, ids []mail.ID) error    { return errSkeleton }
func (s *Spool) Timeline(ctx context.Context, id mail.ID) ([]mail.Event, error) {
	return nil, errSkeleton
}
func (s *Spool) List(ctx context.Context, f Filter, cursor string, limit int) ([]*Stored, string, error) {
	return nil, "", errSkeleton
}
func (s *Spool) Events(ctx context.Context, from uint64, limit int) ([]mail.Event, uint64, error) {
	return nil, 0, errSkeleton
}
func (s *Spool) Changed() <-chan struct{}                       { return nil }
func (s *Spool) Append(w kv.Writer, events ...mail.Event) error { return errSkeleton }
func (s *Spool) Stats() Stats                                   { return Stats{} }
func (s *Spool) Idempotent(ctx context.Context, t mail.TenantID, key string) (id mail.ID, hash [32]byte, found bool, err error) {
	return
}
func (s *Spool) PutIdempotency(w kv.Writer, t mail.TenantID, key string, id mail.ID, hash [32]byte) error {
	return errSkeleton
}
func (s *Spool) Run(ctx context.Context) error { return errSkeleton }
