package spool

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
)

// examined is how many rows one call of List looks at.
const examined = 2000

// List gives messages that match f, newest first, at most limit of them, and a
// cursor for what follows: empty at the end. One call does a bounded amount of
// work, so it may give few or no messages and yet a cursor.
//
// For one tenant the order is that of the ids; for all of them it is that of
// acceptance in the feed.
func (s *Spool) List(ctx context.Context, f Filter, cursor string, limit int) ([]*Stored, string, error) {
	l := lister{s: s, f: &f, limit: max(limit, 1)}
	var out []*Stored
	l.take = func(r kv.Reader, id mail.ID) (bool, error) {
		st, err := l.match(r, id)
		if st != nil {
			out = append(out, st)
		}
		return st != nil, err
	}
	next, err := l.run(ctx, cursor)
	return out, next, err
}

// Candidates gives, like List, the ids of messages that may match f: of f it
// looks at tenant, time and state alone, for which no message need be read.
func (s *Spool) Candidates(ctx context.Context, f Filter, cursor string, limit int) ([]mail.ID, string, error) {
	l := lister{s: s, f: &f, limit: max(limit, 1)}
	var out []mail.ID
	l.take = func(r kv.Reader, id mail.ID) (bool, error) {
		ok, err := l.may(r, id)
		if ok {
			out = append(out, id)
		}
		return ok, err
	}
	next, err := l.run(ctx, cursor)
	return out, next, err
}

// lister gathers one page.
type lister struct {
	s     *Spool
	f     *Filter
	limit int
	taken int
	take  func(kv.Reader, mail.ID) (bool, error) // tells whether the message is one of the page
	next  []byte                                 // the key to go on from
}

func (l *lister) run(ctx context.Context, cursor string) (next string, err error) {
	from, err := hex.DecodeString(cursor)
	if err != nil {
		return "", fmt.Errorf("spool: list: bad cursor %q", cursor)
	}
	err = l.s.st.View(ctx, func(r kv.Reader) error {
		if l.f.Tenant != nil {
			return l.tenant(r, from)
		}
		return l.feed(r, from)
	})
	if err != nil {
		return "", fmt.Errorf("spool: list: %w", err)
	}
	return hex.EncodeToString(l.next), nil
}

// page reads up to examined keys of rng, each turned into an id by pick; a
// page that is full leaves the cursor before the last key it read.
func (l *lister) page(r kv.Reader, rng kv.Range, pick func(k, v []byte) (id mail.ID, ok, more bool)) error {
	var ids []mail.ID
	var keys [][]byte
	n, full := 0, false
	err := r.Scan(rng, func(k, v []byte) bool {
		if n++; n > examined {
			full, keys = true, append(keys, slices.Clone(k))
			return false
		}
		id, ok, more := pick(k, v)
		if ok {
			ids, keys = append(ids, id), append(keys, slices.Clone(k))
		}
		return more
	})
	if err != nil {
		return err
	}
	for i, id := range ids {
		if l.taken == l.limit {
			l.next = keys[i]
			return nil
		}
		ok, err := l.take(r, id)
		if err != nil {
			return err
		}
		if ok {
			l.taken++
		}
	}
	if full {
		l.next = keys[len(keys)-1]
	}
	return nil
}

// tenant reads the messages of one tenant.
func (l *lister) tenant(r kv.Reader, from []byte) error {
	prefix := binary.BigEndian.AppendUint32(l.s.p.table(tableMessage, 4), uint32(*l.f.Tenant))
	until := slices.Clone(prefix)
	if l.f.Until.IsZero() {
		until = appendMillis(until, math.MaxInt64)
	} else {
		until = appendMillis(until, l.f.Until.UnixMilli())
	}
	until = append(until, 0xff, 0xff, 0xff, 0xff)
	if len(from) == 0 || slices.Compare(from, until) > 0 {
		from = until
	}
	rng := kv.Range{Prefix: prefix, From: from, Reverse: true, KeysOnly: true}
	return l.page(r, rng, func(k, _ []byte) (mail.ID, bool, bool) {
		id, ok := idOf(k)
		return id, ok, l.f.Since.IsZero() || !id.Time().Before(l.f.Since.Truncate(time.Millisecond))
	})
}

// feed reads the messages of all tenants by their events of acceptance.
func (l *lister) feed(r kv.Reader, from []byte) error {
	if len(from) == 0 {
		from = keyEvent(l.s.p, math.MaxUint64)
	}
	rng := kv.Range{Prefix: l.s.p.table(tableFeed, 0), From: from, Reverse: true}
	var bad error
	err := l.page(r, rng, func(k, v []byte) (mail.ID, bool, bool) {
		e, ok := peekEvent(v)
		if !ok {
			if e, bad = l.s.codec.decodeEvent(k, v); bad != nil {
				return mail.ID{}, false, false
			}
		}
		// Times in the feed are in order but for a clock that was set back.
		more := l.f.Since.IsZero() || e.At.After(l.f.Since.Add(-time.Hour))
		return e.Message, e.Type == mail.EventAccepted, more
	})
	return errors.Join(err, bad)
}

// may tells whether a message matches as far as that is known without its facts.
func (l *lister) may(r kv.Reader, id mail.ID) (bool, error) {
	f := l.f
	if t := id.Time(); !f.Since.IsZero() && t.Before(f.Since.Truncate(time.Millisecond)) || !f.Until.IsZero() && t.After(f.Until) {
		return false, nil
	}
	if f.State == "" {
		return true, nil
	}
	h, _, err := l.s.head(r, id)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil && f.inState(&h.Tally), err
}

// match reads a message if it matches, else it gives nil.
func (l *lister) match(r kv.Reader, id mail.ID) (*Stored, error) {
	if ok, err := l.may(r, id); !ok || err != nil {
		return nil, err
	}
	st, _, err := l.s.load(r, id)
	if errors.Is(err, ErrNotFound) {
		return nil, nil // purged
	}
	if err != nil {
		return nil, fmt.Errorf("message %s: %w", id, err)
	}
	if !l.f.Match(st) {
		return nil, nil
	}
	return st, nil
}

// inState tells by the counts alone whether some recipient is in the state.
func (f *Filter) inState(t *tally) bool {
	if f.State == mail.Queued {
		return t.queued() > 0
	}
	i := place(f.State)
	return i >= 0 && t[i] > 0
}

// Match reports whether a message matches: its facts, and some one recipient
// all that f asks of recipients.
func (f *Filter) Match(st *Stored) bool {
	if !f.MatchMessage(st.Message) {
		return false
	}
	for i := range st.Recipients {
		if f.MatchRecipient(&st.Recipients[i]) {
			return true
		}
	}
	return false
}

// MatchMessage reports whether the facts of a message match.
func (f *Filter) MatchMessage(m *mail.Message) bool {
	switch {
	case f.Tenant != nil && *f.Tenant != m.Tenant,
		f.From != "" && !sameAddress(f.From, m.From),
		f.Tag != "" && f.Tag != m.Tag && !slices.Contains(m.Tags, f.Tag),
		f.Stream != "" && f.Stream != m.Stream,
		f.Credential != "" && f.Credential != m.Credential,
		f.MessageID != "" && f.MessageID != m.MessageID && "<"+f.MessageID+">" != m.MessageID,
		!f.Since.IsZero() && m.ID.Time().Before(f.Since.Truncate(time.Millisecond)),
		!f.Until.IsZero() && m.ID.Time().After(f.Until):
		return false
	}
	return true
}

// MatchRecipient reports whether r is one of those that f asks for.
func (f *Filter) MatchRecipient(r *mail.Recipient) bool {
	return (f.State == "" || f.State == r.State || f.State == r.Shown()) &&
		(f.Lane == "" || f.Lane == r.Lane) &&
		(f.Domain == "" || f.Domain == r.Address.Domain) &&
		(f.Rule == "" || f.Rule == r.Rule || strings.HasSuffix(r.Rule, ":"+f.Rule)) &&
		(f.Recipient == "" || sameAddress(f.Recipient, r.Address))
}

func sameAddress(s string, a mail.Address) bool {
	want, err := mail.ParseAddress(s)
	return err == nil && want.Equal(a)
}
