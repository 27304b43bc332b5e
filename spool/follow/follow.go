// Package follow runs named followers of the event feed.
package follow

import (
	"context"
	"errors"
	"log/slog"

	"behalf/internal/kv"
	"behalf/mail"
	"behalf/spool"
)

// Handler turns events into rows.
type Handler func(w kv.Writer, events []mail.Event) error

// Options of a follower; the zero value works.
type Options struct {
	Log *slog.Logger
}

// Follower runs one handler from its saved cursor.
type Follower struct{}

// New makes a follower; Run starts it.
func New(sp *spool.Spool, st kv.Store, name string, handle Handler, o Options) *Follower {
	return &Follower{}
}

// Prepare saves the starting cursor of a new follower.
func (f *Follower) Prepare(ctx context.Context) error { return errors.New("follow: being built") }

// Run follows until ctx ends.
func (f *Follower) Run(ctx context.Context) error { return errors.New("follow: being built") }

// Lag is how many events wait to be handled.
func (f *Follower) Lag() uint64 { return 0 }

// Run is New and Run.
func Run(ctx context.Context, sp *spool.Spool, st kv.Store, name string, handle Handler, o Options) error {
	return New(sp, st, name, handle, o).Run(ctx)
}
