package spool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"behalf/internal/blob"
	"behalf/internal/kv"
	"behalf/mail"
)

// How often Run looks for what retention has ended, and reclaims a bounded
// amount of space.
const (
	retireEvery  = 10 * time.Second
	reclaimEvery = 5 * time.Second
	// retireAll is how often it looks at all that is due, and not only at what
	// became due since the last time: what could not be dropped then may be now.
	retireAll = 6
)

// retained is how many timers of retention are read at once.
const retained = 512

// Run ends the retention of bodies and messages and reclaims the space of dead
// bodies, until ctx ends. Its errors are logged and tried again.
func (s *Spool) Run(ctx context.Context) error {
	retire, reclaim := time.NewTicker(retireEvery), time.NewTicker(reclaimEvery)
	defer retire.Stop()
	defer reclaim.Stop()
	var behind *Timer // of retention: all up to this one were looked at
	for looks := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-s.st.Failed():
			return errors.New("spool: the store has failed")
		case <-s.kick:
			// What was appended in transactions of others is on stable storage
			// when this empty one is.
			if err := s.update(ctx, func(*tx) error { return nil }); err != nil && ctx.Err() == nil {
				s.o.Log.Error("events could not be published", "err", err)
			}
		case <-retire.C:
			looks++
			s.try(ctx, "what was kept long enough could not be dropped; it is tried again", func(ctx context.Context) (err error) {
				if looks%retireAll == 0 {
					return s.Tidy(ctx)
				}
				behind, err = s.retire(ctx, behind)
				return err
			})
		case <-reclaim.C:
			s.try(ctx, "the space of dead bodies could not be reclaimed; it is tried again", s.Reclaim)
		}
	}
}

func (s *Spool) try(ctx context.Context, failed string, do func(context.Context) error) {
	if err := do(ctx); err != nil && ctx.Err() == nil {
		s.o.Log.Error(failed, "err", err)
	}
}

// Tidy drops what has been kept long enough, once.
func (s *Spool) Tidy(ctx context.Context) error {
	_, err := s.retire(ctx, nil)
	return errors.Join(err, s.sweep(ctx), s.saveMarks(ctx))
}

// retire drops bodies and messages that are due behind the given timer, page by
// page, and gives the last it looked at. What cannot be dropped is logged and
// passed over until the next time.
func (s *Spool) retire(ctx context.Context, behind *Timer) (*Timer, error) {
	now := time.Now()
	for {
		due, err := s.timers(ctx, classRetention, now, behind, retained)
		if err != nil || len(due) == 0 {
			return behind, err
		}
		var bodies, whole []mail.ID
		for _, t := range due {
			if t.What == TimerBody {
				bodies = append(bodies, t.ID)
			} else {
				whole = append(whole, t.ID)
			}
		}
		for _, d := range []dropped{s.dropAll(ctx, bodies, groupBodies, (*tx).dropBody), s.dropAll(ctx, whole, groupPurge, (*tx).purge)} {
			if d.ended != nil {
				return behind, d.ended
			}
			if d.failed != nil {
				s.o.Log.Error("messages that were kept long enough could not be dropped; the others are", "err", d.failed)
			}
		}
		behind = &due[len(due)-1]
	}
}

func (s *Spool) sweep(ctx context.Context) error {
	before := time.Now().Add(-s.o.KeepEvents).UnixMilli()
	for {
		done, err := s.sweepFeed(ctx, before)
		if done || err != nil {
			return err
		}
	}
}

// saveMarks persists the low-water marks of the timer index, so that a restart
// does not begin with all graves.
func (s *Spool) saveMarks(ctx context.Context) error {
	var moved [classes]int64
	for class := range moved {
		moved[class] = s.marks[class].Load()
	}
	if moved == s.saved {
		return nil
	}
	err := s.update(ctx, func(t *tx) error {
		for class, to := range moved {
			if err := putMark(s.p, t.w, markName(byte(class)), to); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		s.saved = moved
	}
	return err
}

// Reclaim frees the space of dead bodies once.
func (s *Spool) Reclaim(ctx context.Context) error {
	alive := func(o blob.Owner, ref blob.Ref) (bool, error) {
		// A body comes before its message: what is on its way lives.
		if s.coming.has(mail.ID(o)) {
			return true, nil
		}
		live := false
		err := s.st.View(ctx, func(r kv.Reader) error {
			h, _, err := s.head(r, mail.ID(o))
			if errors.Is(err, ErrNotFound) {
				return nil
			}
			live = !h.Gone && h.Body == ref
			return err
		})
		return live, err
	}
	move := func(o blob.Owner, from, to blob.Ref) (moved bool, err error) {
		id := mail.ID(o)
		if s.coming.has(id) {
			return false, fmt.Errorf("message %s is just coming in", id)
		}
		err = s.update(ctx, func(t *tx) error {
			moved = false
			h, rest, err := t.head(id)
			if errors.Is(err, ErrNotFound) || err == nil && (h.Gone || h.Body != from) {
				return nil
			}
			if err != nil {
				return err
			}
			h.Body, moved = to, true
			return t.putHead(id, &h, rest)
		})
		return moved, err
	}
	if err := s.bodies.Reclaim(ctx, alive, move); err != nil {
		return fmt.Errorf("spool: reclaim: %w", err)
	}
	return nil
}
