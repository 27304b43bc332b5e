package spool

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
)

// keepKeys is how long an idempotency key is remembered.
const keepKeys = 24 * time.Hour

// ErrRepeated is returned by [Spool.PutIdempotency], and so by a Put whose
// extra calls it, when an earlier submission took the key.
type ErrRepeated struct {
	ID   mail.ID  // what was accepted then
	Hash [32]byte // of that request
}

func (e *ErrRepeated) Error() string {
	return "spool: the idempotency key was used for message " + e.ID.String()
}

// Idempotent looks up an idempotency key of a tenant.
func (s *Spool) Idempotent(ctx context.Context, t mail.TenantID, key string) (id mail.ID, requestHash [32]byte, found bool, err error) {
	err = s.st.View(ctx, func(r kv.Reader) error {
		b, err := r.Get(keyIdempotency(t, sha256.Sum256([]byte(key))))
		if err != nil {
			return err
		}
		id, requestHash, err = readIdempotency(b)
		found = err == nil
		return err
	})
	if errors.Is(err, kv.ErrNotFound) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("spool: look up idempotency key: %w", err)
	}
	return id, requestHash, found, err
}

// PutIdempotency takes a key for a message within the transaction that accepts
// it. Of two submissions with one key the later fails with *ErrRepeated.
func (s *Spool) PutIdempotency(w kv.Writer, t mail.TenantID, key string, id mail.ID, hash [32]byte) error {
	k := keyIdempotency(t, sha256.Sum256([]byte(key)))
	switch b, err := w.Get(k); {
	case err == nil:
		old, was, err := readIdempotency(b)
		if err != nil {
			return err
		}
		return &ErrRepeated{ID: old, Hash: was}
	case !errors.Is(err, kv.ErrNotFound):
		return err
	}
	return w.PutFor(k, append(id[:], hash[:]...), keepKeys)
}

func readIdempotency(b []byte) (id mail.ID, hash [32]byte, err error) {
	if len(b) != len(id)+len(hash) {
		return id, hash, fmt.Errorf("spool: an idempotency record has %d octets", len(b))
	}
	copy(id[:], b)
	copy(hash[:], b[len(id):])
	return id, hash, nil
}
