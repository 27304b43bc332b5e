package relay

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"

	"behalf/mail"
	"behalf/spool"
)

// requestHash tells one request from another under the same idempotency key.
// A client that sends again makes a new Date, Message-ID and boundary, so only
// what it asked for counts: from whom and to whom. HTTP requests are repeated
// to the byte and bring a hash of their own.
func (t *transaction) requestHash() [32]byte {
	if t.hints.request != [32]byte{} {
		return t.hints.request
	}
	keys := make([]string, 0, len(t.recipients))
	for _, r := range t.recipients {
		keys = append(keys, r.Address.Key())
	}
	slices.Sort(keys)
	h := sha256.New()
	h.Write([]byte(t.envelope.From.Key()))
	for _, k := range keys {
		h.Write([]byte{0})
		h.Write([]byte(k))
	}
	return [32]byte(h.Sum(nil))
}

// repeated finds an earlier submission with the same idempotency key.
func (t *transaction) repeated(ctx context.Context) (Receipt, bool, error) {
	if t.hints.IdempotencyKey == "" {
		return Receipt{}, false, nil
	}
	id, hash, found, err := t.in.Spool.Idempotent(ctx, t.view.Tenant.ID, t.hints.IdempotencyKey)
	if err != nil || !found {
		return Receipt{}, false, err
	}
	r, err := t.repeat(ctx, id, hash)
	return r, true, err
}

// repeat answers a submission whose key is taken.
func (t *transaction) repeat(ctx context.Context, id mail.ID, hash [32]byte) (Receipt, error) {
	if hash != t.requestHash() {
		return Receipt{}, mail.Fail(550, mail.Enhanced{5, 5, 4}, mail.OfMessage, mail.ReasonRejected,
			"the idempotency key was used for another message (%s) within 24 hours; take a new key for a new message", id)
	}
	r := Receipt{ID: id, Repeated: true}
	st, err := t.in.Spool.Load(ctx, id)
	switch {
	case errors.Is(err, spool.ErrNotFound): // purged meanwhile
		return r, nil
	case err != nil:
		return Receipt{}, err
	}
	r.MessageID = st.Message.MessageID
	st.Release()
	return r, nil
}
