package spool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
)

// TimerKind is what a [Timer] is for.
type TimerKind uint8

// The timers. Each stays due until a settle has dealt with it: expire until no
// recipient is queued or held, release until no held one is past its time,
// delay until an outcome with mail.EventDelayed. Run deals with the last two.
const (
	TimerExpire  TimerKind = iota + 1 // the message's life has ended
	TimerRelease                      // a held recipient frees itself
	TimerDelay                        // people are told that the message is late
	TimerBody                         // the body is no longer kept
	TimerPurge                        // nothing of the message is kept
)

func (k TimerKind) String() string {
	switch k {
	case TimerExpire:
		return "expire"
	case TimerRelease:
		return "release"
	case TimerDelay:
		return "delay"
	case TimerBody:
		return "body"
	case TimerPurge:
		return "purge"
	}
	return "timer ?"
}

// The classes of timers lie apart in the index, so that a backlog of
// retention never stands before what the dispatcher waits for.
const (
	classLive = iota
	classRetention
	classes
)

func (k TimerKind) class() byte {
	if k >= TimerBody {
		return classRetention
	}
	return classLive
}

// Timer is something that is due for one message.
type Timer struct {
	At   time.Time
	ID   mail.ID
	What TimerKind
}

// Timers gives up to limit timers that are due at now: first expire, release
// and delay in order of time, then body and purge in order of time.
func (s *Spool) Timers(ctx context.Context, now time.Time, limit int) ([]Timer, error) {
	out, err := s.timers(ctx, classLive, now, nil, limit)
	if err != nil || len(out) >= limit {
		return out, err
	}
	rest, err := s.timers(ctx, classRetention, now, nil, limit-len(out))
	return append(out, rest...), err
}

// TimersAfter gives up to limit timers of the dispatcher (expire, release,
// delay) that are due at now, strictly behind the given one (nil: from the
// first). It lets a caller pass over those that are being dealt with.
func (s *Spool) TimersAfter(ctx context.Context, now time.Time, after *Timer, limit int) ([]Timer, error) {
	return s.timers(ctx, classLive, now, after, limit)
}

func (s *Spool) timers(ctx context.Context, class byte, now time.Time, behind *Timer, limit int) ([]Timer, error) {
	if limit <= 0 {
		return nil, nil
	}
	mark := s.marks[class].Load()
	from := appendMillis(keyTimers(s.p, class), mark)
	if behind != nil {
		from = after(keyTimer(behind.ID, class, behind.At.UnixMilli()))
	}
	safe := time.Now().Add(-markAge).UnixMilli() // before the view begins
	var out []Timer
	var bad error
	first := int64(-1)
	err := s.st.View(ctx, func(r kv.Reader) error {
		return r.Scan(kv.Range{Prefix: keyTimers(s.p, class), From: from}, func(k, v []byte) bool {
			var t Timer
			if t, bad = parseTimer(k, v); bad != nil {
				return false
			}
			if first < 0 {
				first = t.At.UnixMilli()
			}
			if t.At.After(now) {
				return false
			}
			out = append(out, t)
			return len(out) < limit
		})
	})
	if err = errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("spool: read timers: %w", err)
	}
	if behind == nil {
		if first >= 0 {
			safe = min(safe, first)
		}
		s.raiseMark(class, safe)
	}
	return out, nil
}

// markAge is how far a mark stays behind the present. New rows are never put
// further back than a minute, so none can appear below the mark.
const markAge = 10 * time.Minute

func (s *Spool) raiseMark(class byte, to int64) {
	for {
		old := s.marks[class].Load()
		if to <= old || s.marks[class].CompareAndSwap(old, to) {
			return
		}
	}
}

func markName(class byte) string { return "x" + string('0'+rune(class)) }

// loadMark reads a low-water mark; there may be none.
func loadMark(p part, r kv.Reader, name string) (int64, error) {
	b, err := r.Get(keyMark(p, name))
	if errors.Is(err, kv.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("spool: mark %s has %d octets", name, len(b))
	}
	return int64(binary.BigEndian.Uint64(b)), nil
}

func putMark(p part, w kv.Writer, name string, to int64) error {
	return w.Put(keyMark(p, name), binary.BigEndian.AppendUint64(nil, uint64(to)))
}
