// Package spool keeps accepted messages until they are done with: immutable
// facts, recipients that change, a due index, and the feed of events, over
// internal/kv, with the bodies in internal/blob. See keys.go for the layout.
//
// What holds, whatever crashes:
//
//   - Put returns nil only when body and message would survive a power cut;
//     a commit is never on disk before its body.
//   - One transaction writes an outcome: recipients, due index, timer, counts
//     and events never disagree, and what is lost is always the end of a story.
//   - A final state never changes, but for delivered to bounced.
//   - Event numbers rise in the order in which events become visible, and are
//     never used twice: a reader with a cursor can skip nothing.
//   - No call costs more because more is queued.
package spool

import (
	"errors"
	"log/slog"
	"time"

	"behalf/internal/blob"
	"behalf/mail"
)

// ErrNotFound is returned for an id that the spool does not hold.
var ErrNotFound = errors.New("spool: no such message")

// MaxRecipients is the most one message may have.
const MaxRecipients = 10_000

// Stored is one message with its recipients, as read from the store or handed
// over in memory right after it was accepted.
type Stored struct {
	Message    *mail.Message
	Recipients []mail.Recipient
	Body       blob.Ref
	// Young is the body while it is still in memory, else nil.
	Young []byte

	buf *buffer // owns Young
}

// Change is a recipient as it shall be from now on.
type Change struct {
	Index     int
	Recipient mail.Recipient
}

// Outcome is everything one settle writes: changed recipients and the events
// that tell of it, in one transaction.
type Outcome struct {
	ID      mail.ID
	Changes []Change
	Events  []mail.Event // Seq is given by the spool
}

// Queue is a lane of one tenant.
type Queue struct {
	Lane   mail.Lane
	Tenant mail.TenantID
}

// Due is one entry of the due index: recipients of one message that are due
// together in one queue.
type Due struct {
	Queue Queue
	At    time.Time // to the millisecond
	ID    mail.ID
	Chunk int // the recipients 64*Chunk … 64*Chunk+63
}

// Filter selects messages for lists and bulk operations. Zero fields match all.
type Filter struct {
	Tenant     *mail.TenantID
	State      mail.State // any recipient in this state; Deferred too
	Lane       mail.Lane
	Domain     string // of a recipient
	Recipient  string // address
	From       string // header From address
	Tag        string
	Stream     string
	Credential string
	MessageID  string
	Rule       string // of policy, that holds a recipient: its name, or file:rule
	Since      time.Time
	Until      time.Time
}

// Options are the spool's bounds; the zero value works.
type Options struct {
	Partition   uint16
	KeepBodies  time.Duration // after the last recipient is done; default 7 days
	KeepEvents  time.Duration // likewise; default 90 days; never shorter than KeepBodies
	MemoryDraft int64         // largest body kept in memory while it comes in; default 1 MiB
	MemoryAll   int64         // all such bodies together; default 64 MiB
	TempDir     string        // where larger ones gather; default os.TempDir
	// Delays are the ages at which people are told that a message is late;
	// default 3 minutes, 1 hour, 4 hours. An empty, non-nil slice means never.
	Delays []time.Duration
	Log    *slog.Logger // of background work; default discards
}
