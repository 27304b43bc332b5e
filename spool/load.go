package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"behalf/internal/blob"
	"behalf/internal/kv"
	"behalf/mail"
)

// ErrBodyGone is returned for a message whose body is no longer kept.
var ErrBodyGone = errors.New("spool: the body of the message is no longer kept")

// Load reads a message with its recipients, or gives ErrNotFound.
func (s *Spool) Load(ctx context.Context, id mail.ID) (*Stored, error) {
	var st *Stored
	err := s.st.View(ctx, func(r kv.Reader) (err error) {
		st, _, err = s.load(r, id)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("spool: load %s: %w", id, err)
	}
	return st, nil
}

func (s *Spool) load(r kv.Reader, id mail.ID) (*Stored, *head, error) {
	b, err := get(r, keyMessage(id))
	if err != nil {
		return nil, nil, err
	}
	m, err := s.codec.decodeMessage(b)
	if err != nil {
		return nil, nil, err
	}
	h, rest, err := s.head(r, id)
	if err != nil {
		return nil, nil, err
	}
	rs, err := s.codec.decodeRecipients(rest)
	if err != nil {
		return nil, nil, err
	}
	for k := 1; k < h.chunks(); k++ {
		if b, err = get(r, keyRecipients(id, k)); err != nil {
			return nil, nil, err
		}
		more, err := s.codec.decodeRecipients(b)
		if err != nil {
			return nil, nil, err
		}
		rs = append(rs, more...)
	}
	if len(rs) != h.Total {
		return nil, nil, fmt.Errorf("%d recipients, want %d", len(rs), h.Total)
	}
	return &Stored{Message: m, Recipients: rs, Body: h.Body}, &h, nil
}

func (s *Spool) head(r kv.Reader, id mail.ID) (h head, rest []byte, err error) {
	b, err := get(r, keyRecipients(id, 0))
	if err != nil {
		return h, nil, err
	}
	return decodeHead(b)
}

func get(r kv.Reader, key []byte) ([]byte, error) {
	b, err := r.Get(key)
	if errors.Is(err, kv.ErrNotFound) {
		return nil, ErrNotFound
	}
	return b, err
}

// OpenBody opens the body of a message: Young if that is still there. The
// caller closes it, and before it releases st.
func (s *Spool) OpenBody(ctx context.Context, st *Stored) (blob.Body, error) {
	if st.Young != nil {
		return youngBody(st.Young), nil
	}
	id := st.Message.ID
	b, err := s.bodies.Open(ctx, blob.Owner(id), st.Body)
	if err == nil {
		return b, nil
	}
	// It may have been moved, or dropped, since st was read.
	var h head
	verr := s.st.View(ctx, func(r kv.Reader) (err error) {
		h, _, err = s.head(r, id)
		return err
	})
	switch {
	case verr != nil:
		return nil, fmt.Errorf("spool: open body of %s: %w", id, verr)
	case h.Gone:
		return nil, fmt.Errorf("spool: open body of %s: %w", id, ErrBodyGone)
	case h.Body != st.Body:
		b, err = s.bodies.Open(ctx, blob.Owner(id), h.Body)
	}
	if err != nil {
		return nil, fmt.Errorf("spool: open body of %s: %w", id, err)
	}
	return b, nil
}

// youngBody is a body in memory.
type youngBody []byte

func (b youngBody) Size() int64  { return int64(len(b)) }
func (b youngBody) Close() error { return nil }

func (b youngBody) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("spool: read of a body at a negative offset")
	}
	if off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Timeline gives the events of a message in order; of a very long story the
// middle is missing.
func (s *Spool) Timeline(ctx context.Context, id mail.ID) ([]mail.Event, error) {
	var out []mail.Event
	err := s.st.View(ctx, func(r kv.Reader) error {
		h, _, err := s.head(r, id)
		if err != nil {
			return err
		}
		for _, seq := range eventNumbers(h.Events) {
			key := keyEvent(s.p, seq)
			b, err := r.Get(key)
			if errors.Is(err, kv.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			e, err := s.codec.decodeEvent(key, b)
			if err != nil {
				return err
			}
			out = append(out, e)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("spool: timeline of %s: %w", id, err)
	}
	return slices.Clip(out), nil
}
