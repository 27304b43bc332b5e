package upstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"behalf/internal/smtpclient"
	"behalf/mail"
)

// Lease waits for one of our sessions to a place and tells how long that took.
// A wait for ourselves says nothing about the peer: it is not counted in the
// attempt, its failure is of ours, and it leaves at least open, or half of the
// attempt where that is less, for reaching the peer.
func Lease(ctx context.Context, p *smtpclient.Pool, key string, open time.Duration) (l *smtpclient.Lease, waited time.Duration, f *mail.Failure) {
	if l := p.TryLease(key); l != nil {
		return l, 0, nil
	}
	asked := time.Now()
	var until time.Time
	if end, ok := ctx.Deadline(); ok {
		left := end.Sub(asked)
		until = end.Add(-min(open, left/2))
	}
	l, err := p.LeaseUntil(ctx, key, until)
	if err != nil {
		return nil, 0, noSession(err)
	}
	return l, time.Since(asked), nil
}

// noSession is the failure of an attempt for which no session came free.
func noSession(err error) *mail.Failure {
	if !errors.Is(err, context.DeadlineExceeded) {
		return interrupted(err)
	}
	f := mail.Fail(451, mail.Enhanced{4, 3, 2}, mail.OfUs, mail.ReasonInternal,
		"all sessions that are allowed at once were in use; it is tried again soon")
	f.Err = fmt.Errorf("waiting for a session: %w", err)
	return f
}
