// Package follow runs named followers of the event feed.
//
// A follower turns events into rows, each batch of events with the follower's
// cursor in one transaction, so that the effect of an event is there exactly
// once, whatever crashes. It does no network I/O: what must leave the machine
// is written as work for a worker. An event is never skipped: while a handler
// fails, its follower stands still, and Lag tells.
//
// Most events have no effect: nearly all mail is delivered and nobody asked to
// be told. For them nothing is committed; the saved cursor stays behind by a
// bounded number of such events, which after a crash are looked at again.
package follow

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
	"behalf/spool"
)

// Handler turns events into rows. It runs inside the transaction, so it must
// do no I/O and may be run again with the same events. What it does may depend
// on the events and the store alone: it is first tried on a Writer that refuses
// everything, and where it does not turn to that, there is nothing to commit.
type Handler func(w kv.Writer, events []mail.Event) error

// Options of a follower; the zero value works.
type Options struct {
	Batch  int          // events in one transaction; default 256
	Choice spool.Choice // of the events that the handler is for
	// Linger is how long events wait for company, so that a busy relay is not
	// slowed by its followers; default none.
	Linger time.Duration
	Log    *slog.Logger // default discards
}

// unsaved is how many events without an effect the saved cursor may stay behind.
const unsaved = 4096

// The back-off after an error.
const (
	firstWait = 100 * time.Millisecond
	lastWait  = 30 * time.Second
)

// Follower runs one handler from its saved cursor.
type Follower struct {
	sp     *spool.Spool
	st     kv.Store
	name   string
	handle Handler
	o      Options
	log    *slog.Logger
	next   atomic.Uint64 // first event not handled; 0: not known yet
	saved  uint64        // as the store has it
}

// New makes a follower. Its name is that of its cursor: two that run at a time
// must differ. New starts nothing.
func New(sp *spool.Spool, st kv.Store, name string, handle Handler, o Options) *Follower {
	if o.Batch <= 0 {
		o.Batch = 256
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Follower{sp: sp, st: st, name: name, handle: handle, o: o, log: o.Log.With("follower", name)}
}

// Prepare finds the cursor. A follower that has none begins with the next
// event; that is saved at once, so nothing is missed from then on. Call it
// before the doors open; Run does what was not done.
func (f *Follower) Prepare(ctx context.Context) error {
	if f.next.Load() != 0 {
		return nil
	}
	var next uint64
	err := f.st.View(ctx, func(r kv.Reader) (err error) {
		next, err = readCursor(r.Get(f.sp.Cursor(f.name)))
		return err
	})
	if errors.Is(err, kv.ErrNotFound) {
		next = f.sp.LastEvent() + 1
		err = f.sp.Update(ctx, func(w kv.Writer) error { return f.save(w, next) })
	}
	if err != nil {
		return fmt.Errorf("follower %s: find its cursor: %w", f.name, err)
	}
	f.saved = next
	f.pass(next)
	return nil
}

// Run handles events until ctx ends. Errors are logged and what failed is
// tried again, in smaller batches; the store's failure ends it.
func (f *Follower) Run(ctx context.Context) error {
	defer f.sp.NotFollowing(f.name)
	wait, batch := time.Duration(0), f.o.Batch
	for ctx.Err() == nil {
		changed := f.sp.Changed()
		some, err := f.step(ctx, batch)
		switch {
		case err == nil && some:
			wait, batch = 0, min(2*batch, f.o.Batch)
		case err == nil:
			select {
			case <-changed:
				if err := f.pause(ctx, f.o.Linger); err != nil {
					return err
				}
			case <-ctx.Done():
			case <-f.st.Failed():
				return f.storeFailed()
			}
		case ctx.Err() != nil:
		default:
			batch = max(1, batch/2)
			wait = min(max(2*wait, firstWait), lastWait)
			f.log.Error("events could not be handled; trying again", "err", err, "next", f.next.Load(), "lag", f.Lag(), "wait", wait)
			if err := f.pause(ctx, wait); err != nil {
				return err
			}
		}
	}
	return nil
}

// pause waits, but not for a store that has failed.
func (f *Follower) pause(ctx context.Context, wait time.Duration) error {
	if wait <= 0 {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-f.st.Failed():
		return f.storeFailed()
	}
	return nil
}

func (f *Follower) storeFailed() error {
	return fmt.Errorf("follower %s: the store has failed", f.name)
}

// step handles one batch and tells whether there were any events.
func (f *Follower) step(ctx context.Context, batch int) (bool, error) {
	if err := f.Prepare(ctx); err != nil {
		return false, err
	}
	from := f.next.Load()
	events, next, err := f.sp.EventsOf(ctx, f.o.Choice, from, batch)
	if err != nil || next == from {
		return false, err
	}
	effect, err := f.effect(events)
	if err == nil && (effect || next-f.saved > unsaved) {
		err = f.commit(ctx, events, next)
	}
	if err != nil {
		return false, err
	}
	f.pass(next)
	return true, nil
}

// effect tells whether the handler writes anything about the events.
func (f *Follower) effect(events []mail.Event) (bool, error) {
	if len(events) == 0 {
		return false, nil
	}
	var t trial
	err := f.handle(&t, events)
	return t.touched, t.cause(err)
}

// commit writes what the handler makes of the events, and the cursor with it.
func (f *Follower) commit(ctx context.Context, events []mail.Event, next uint64) error {
	err := f.sp.Update(ctx, func(w kv.Writer) error {
		at, err := readCursor(w.Get(f.sp.Cursor(f.name)))
		if err != nil {
			return err
		}
		if at != f.saved {
			return fmt.Errorf("the cursor moved from %d to %d: two followers have this name", f.saved, at)
		}
		if len(events) > 0 {
			if err := f.handle(w, events); err != nil {
				return err
			}
		}
		return f.save(w, next)
	})
	if err == nil {
		f.saved = next
	}
	return err
}

// pass notes that all events below next are handled.
func (f *Follower) pass(next uint64) {
	f.next.Store(next)
	f.sp.Following(f.name, next)
}

// Lag is how many event numbers wait to be handled; after a restart the unused
// rest of a reserved block may be counted until the next event.
func (f *Follower) Lag() uint64 {
	next, end := f.next.Load(), f.sp.LastEvent()+1
	if next == 0 || next >= end {
		return 0
	}
	return end - next
}

func (f *Follower) save(w kv.Writer, next uint64) error {
	return w.Put(f.sp.Cursor(f.name), binary.BigEndian.AppendUint64(nil, next))
}

func readCursor(b []byte, err error) (uint64, error) {
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("a cursor of %d octets", len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}
