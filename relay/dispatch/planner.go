package dispatch

import (
	"context"
	"time"

	"behalf/internal/blob"
	"behalf/mail"
	"behalf/spool"
	"behalf/upstream"
)

// Planner resolves wishes to hops and renders. All methods are called on
// workers, from many goroutines, never on the owner.
type Planner interface {
	// Plan decides how m goes out by its wish of that number, now. The error is
	// a *mail.Failure: OfRoute when no method holds there.
	Plan(ctx context.Context, m *mail.Message, wish int) (*mail.Hop, upstream.Upstream, error)
	// Sender is the envelope sender for the recipient of that index.
	Sender(m *mail.Message, hop *mail.Hop, index int) mail.Address
	// Render gives the Render function of a job. body opens the stored bytes;
	// the caller closes what it opened when the attempt is over. index is the
	// one recipient of the job where hop.Single is set.
	Render(st *spool.Stored, hop *mail.Hop, index int, body func(ctx context.Context) (blob.Body, error)) func(ctx context.Context, caps upstream.Caps) (upstream.Rendered, error)
	// Site names the MX site that a lane of upstream mx leads to, from its MX
	// set. It is asked for such lanes only.
	Site(ctx context.Context, m *mail.Message, lane mail.Lane) (string, error)
	// Suppressed reports whether r must not be mailed any more, and why: the
	// list may have changed since m was accepted. An error defers the attempt.
	Suppressed(ctx context.Context, m *mail.Message, r *mail.Recipient) (reason string, yes bool, err error)
}

// store is what dispatch needs of the spool.
type store interface {
	Settle(o spool.Outcome, done func(error))
	SettleNow(ctx context.Context, os []spool.Outcome) error
	Load(ctx context.Context, id mail.ID) (*spool.Stored, error)
	OpenBody(ctx context.Context, st *spool.Stored) (blob.Body, error)
	Queues(ctx context.Context, before time.Time, fn func(q spool.Queue, next time.Time, entries int) bool) error
	Due(ctx context.Context, q spool.Queue, after *spool.Due, limit int) ([]spool.Due, error)
	TimersAfter(ctx context.Context, now time.Time, after *spool.Timer, limit int) ([]spool.Timer, error)
	Candidates(ctx context.Context, f spool.Filter, cursor string, limit int) ([]mail.ID, string, error)
}
