package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"behalf/internal/testkit/cmd/bench/load"
	"behalf/internal/testkit/cmd/bench/proc"
)

// idleResult is the memory that clients take which do nothing.
type idleResult struct {
	Relay    string  `json:"relay"`
	Clients  int     `json:"clients"`
	LoggedIn bool    `json:"logged_in"`
	Served   int     `json:"served"` // a limit of the relay's may be less
	Before   float64 `json:"before_mib"`
	Grew     float64 `json:"grew_mib"`
}

// idle measures clients that were greeted, and such as have logged in, at relays
// that have done nothing before.
func (b *bench) idle(ctx context.Context) error {
	b.say("| idle clients | Behalf, greeted | Behalf, TLS and logged in | Postfix, greeted |\n| --- | --- | --- | --- |\n")
	for _, n := range b.options.scale.idle {
		ours, err := b.idleAt(ctx, n, 0, false)
		if err != nil {
			return err
		}
		in, err := b.idleAt(ctx, n, 0, true)
		if err != nil {
			return err
		}
		peer, err := b.idleAt(ctx, n, 1, false)
		if err != nil {
			return err
		}
		b.say("| %d | %s | %s | %s |\n", n, ours, in, peer)
	}
	b.say("\n")
	return nil
}

// idleAt measures n clients at a relay of its own: Behalf or its peer.
func (b *bench) idleAt(ctx context.Context, n, which int, loggedIn bool) (res idleResult, err error) {
	ours, peer, stop, err := b.pair(ctx, false)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	r := []*relay{ours, peer}[which]
	who := load.Account{}
	if loggedIn {
		who = r.accounts[0]
	}
	time.Sleep(time.Second) // what a start leaves to do
	res = idleResult{Relay: r.name, Clients: n, LoggedIn: loggedIn, Before: proc.Resident(r.pids)}
	crowd, err := load.Gather(ctx, r.addr, who, n)
	if err != nil {
		return res, fmt.Errorf("%s: %w", r.name, err)
	}
	defer crowd.Leave()
	time.Sleep(2 * time.Second) // so that what is passing has passed
	res.Served, res.Grew = crowd.Len(), proc.Resident(r.pids)-res.Before
	b.note(res)
	return res, ctx.Err()
}

func (r idleResult) String() string {
	if r.Served < r.Clients {
		return fmt.Sprintf("no more than %d are served: +%.0f MiB", r.Served, r.Grew)
	}
	return fmt.Sprintf("+%.0f MiB", r.Grew)
}
