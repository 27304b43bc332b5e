// Package upstream is the ways out. An [Upstream] makes one attempt at one job
// and says, for each recipient, what became of it; whether and when to try
// again, and by which way, is not its business.
package upstream

import (
	"context"
	"io"
	"time"

	"behalf/mail"
)

// Upstream is one way out. Deliver may be called from many goroutines.
type Upstream interface {
	// Deliver makes one attempt and returns one Result for each of j.To, in
	// order. It never retries or sleeps, ends soon after ctx does, and never
	// panics on what a peer sends.
	Deliver(ctx context.Context, j *Job) []Result
	Traits() Traits
}

// Traits are what dispatch must know of an upstream beforehand.
type Traits struct {
	HeaderRecipients bool  // recipients are taken from header fields, not from the envelope
	KeepsSent        bool  // the provider files its own copy in Sent
	MaxRecipients    int   // a job; 0: no limit
	MaxSize          int64 // octets as sent; 0: not known
}

// Job is one attempt at one message for recipients that share a next hop.
type Job struct {
	Message *mail.Message
	Hop     *mail.Hop
	Domain  string // of the recipients, where the hop is mx; else empty
	To      []Target
	// Render gives the bytes to send to a hop with these capabilities, or a
	// Failure (OfMessage, cannot-carry) when the hop cannot carry the message.
	// It is called after EHLO; calling it twice with equal Caps is cheap.
	Render func(ctx context.Context, caps Caps) (Rendered, error)
}

// Target is one recipient of a job. Targets with equal From share a transaction.
type Target struct {
	Index  int // in the message's recipients
	To     mail.Address
	From   mail.Address // envelope sender for this recipient; may be null
	ORcpt  string
	Notify mail.Notify
}

// Caps is what the next hop offered in answer to EHLO.
type Caps struct {
	EightBitMIME bool
	SMTPUTF8     bool
	Chunking     bool
	BinaryMIME   bool
	DSN          bool
	RequireTLS   bool
	Size         int64 // 0: no limit stated
}

// Rendered is a message as it goes to one hop.
type Rendered interface {
	// Size is exact, in octets, before dot-stuffing.
	Size() int64
	// EightBit and UTF8 say which extensions these bytes need.
	EightBit() bool
	UTF8() bool
	// Prepare computes what costs time, the signatures. Call it after DATA was
	// sent and before its 354 is read.
	Prepare(ctx context.Context) error
	// WriteTo writes the message with CRLF line ends and without dot-stuffing.
	// It may be called again.
	io.WriterTo
	// Signed lists the signatures as "d=… s=… a=…".
	Signed() []string
}

// Result is what became of one recipient.
type Result struct {
	Failure *mail.Failure // nil: the hop took responsibility
	Host    string        // name of the host that answered or should have
	Addr    string        // its address and port
	TLS     string        // e.g. "TLS 1.3 TLS_AES_128_GCM_SHA256, verified"; empty without TLS
	Reply   string        // its last reply about this recipient, verbatim, lines joined by \n
	Signed  []string
	Start   time.Time
	Took    time.Duration
}

// FailAll gives every recipient of j the same failure.
func FailAll(j *Job, start time.Time, f *mail.Failure) []Result {
	rs := make([]Result, len(j.To))
	for i := range rs {
		rs[i] = Result{Failure: f, Start: start, Took: time.Since(start)}
	}
	return rs
}
