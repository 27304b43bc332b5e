// Package mem is a blob.Store in memory, for tests.
package mem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"behalf/internal/blob"
)

var errClosed = errors.New("blob: closed")

type place struct {
	owner blob.Owner
	ref   blob.Ref
}

// Store is a blob.Store in memory. It starts no goroutine, so that it may be
// made in or out of a testing/synctest bubble.
type Store struct {
	mu     sync.Mutex
	bodies map[place][]byte
	last   int64
	fault  error
	closed bool
}

// New gives an empty store.
func New() *Store { return &Store{bodies: map[place][]byte{}} }

// Refuse makes each Put fail with err until it is called with nil.
func (s *Store) Refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = err
}

// Len gives the number of bodies.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.bodies)
}

// Put implements blob.Store.
func (s *Store) Put(ctx context.Context, owner blob.Owner, body blob.Source) (blob.Ref, error) {
	if err := ctx.Err(); err != nil {
		return blob.Ref{}, err
	}
	var buf bytes.Buffer
	if _, err := body.WriteTo(&buf); err != nil {
		return blob.Ref{}, fmt.Errorf("store body: %w", err)
	}
	if int64(buf.Len()) != body.Size() {
		return blob.Ref{}, fmt.Errorf("store body: the source gave %d octets, not %d", buf.Len(), body.Size())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return blob.Ref{}, errClosed
	}
	if s.fault != nil {
		return blob.Ref{}, s.fault
	}
	s.last++
	ref := blob.Ref{Segment: 1, Offset: s.last, Size: body.Size()}
	s.bodies[place{owner, ref}] = buf.Bytes()
	return ref, nil
}

// Begin implements blob.Store; the body is stable at once.
func (s *Store) Begin(ctx context.Context, owner blob.Owner, body blob.Source) (blob.Ref, blob.Pending, error) {
	ref, err := s.Put(ctx, owner, body)
	return ref, nil, err
}

// Open implements blob.Store.
func (s *Store) Open(ctx context.Context, owner blob.Owner, ref blob.Ref) (blob.Body, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	body, there := s.bodies[place{owner, ref}]
	if !there {
		return nil, fmt.Errorf("open body: %w", blob.ErrCorrupt)
	}
	return opened{bytes.NewReader(body)}, nil
}

type opened struct{ *bytes.Reader }

func (opened) Close() error { return nil }

// Delete implements blob.Store.
func (s *Store) Delete(owner blob.Owner, ref blob.Ref) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.bodies, place{owner, ref})
	return nil
}

// Reclaim implements blob.Store; there is nothing to reclaim but what nobody
// came to own, and that is kept.
func (s *Store) Reclaim(context.Context, func(blob.Owner, blob.Ref) (bool, error), func(blob.Owner, blob.Ref, blob.Ref) (bool, error)) error {
	return nil
}

// Close implements blob.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
