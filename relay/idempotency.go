package relay

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"strings"

	"behalf/mail"
	"behalf/spool"
)

// requestHash tells one request from another under the same idempotency key.
// A client that sends again makes a new Date, Message-ID and boundary, so only
// what it asked for counts: from whom and to whom, those included that a limit or
// a rule refused this time. HTTP requests are repeated to the byte and bring a
// hash of their own.
func (t *transaction) requestHash() [32]byte {
	if t.hints.request != [32]byte{} {
		return t.hints.request
	}
	h := sha256.New()
	h.Write([]byte(t.envelope.From.Key()))
	for _, k := range t.named.keys() {
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

// repeatedWhole finds an earlier request with the same idempotency key before
// anything is asked or reserved: its receipt costs no limit. It reads the request
// only if the key is known.
func (in *Intake) repeatedWhole(ctx context.Context, p *Principal, c Client, s *Submission) (Receipt, bool, error) {
	if s.Hints.IdempotencyKey == "" || s.Hash == nil {
		return Receipt{}, false, nil
	}
	t, err := in.open(ctx, p, c, s.Envelope, 0, s.Hints)
	if err != nil || t.view == nil {
		return Receipt{}, false, err
	}
	_, _, found, err := in.Spool.Idempotent(ctx, t.view.Tenant.ID, s.Hints.IdempotencyKey)
	if err != nil || !found {
		return Receipt{}, false, err
	}
	if err := s.Write(io.Discard); err != nil {
		return Receipt{}, true, err
	}
	t.hints.request = s.Hash()
	return t.repeated(ctx)
}

// repeat answers a submission whose key is taken: with the first message's id if
// it is the same request, or asks by SMTP for nothing that the first did not get.
func (t *transaction) repeat(ctx context.Context, id mail.ID, hash [32]byte) (Receipt, error) {
	same := hash == t.requestHash()
	if !same && t.hints.request != [32]byte{} {
		return Receipt{}, otherRequest(id)
	}
	r := Receipt{ID: id, Repeated: true}
	st, err := t.in.Spool.Load(ctx, id)
	switch {
	case errors.Is(err, spool.ErrNotFound) && same: // purged meanwhile
		return r, nil
	case errors.Is(err, spool.ErrNotFound):
		return Receipt{}, otherRequest(id)
	case err != nil:
		return Receipt{}, err
	}
	defer st.Release()
	r.MessageID, r.taken = st.Message.MessageID, map[string]bool{}
	for i := range st.Recipients {
		r.taken[st.Recipients[i].Address.Key()] = true
	}
	var missing []string
	for i := range t.recipients {
		if a := t.recipients[i].Address; !r.taken[a.Key()] {
			missing = append(missing, a.String())
		}
	}
	switch {
	case t.hints.request != [32]byte{}: // the receipt names them
	case !same && (len(missing) > 0 || st.Message.Envelope.From.Key() != t.envelope.From.Key()):
		return Receipt{}, otherRequest(id)
	case len(missing) > 0:
		return Receipt{}, mail.Fail(550, mail.Enhanced{5, 5, 4}, mail.OfMessage, mail.ReasonRejected,
			"the message was taken under that idempotency key (%s), but not for %s; send it there with a new key", id, shorten(strings.Join(missing, ", "), 300))
	}
	return r, nil
}

func otherRequest(id mail.ID) error {
	return mail.Fail(550, mail.Enhanced{5, 5, 4}, mail.OfMessage, mail.ReasonRejected,
		"the idempotency key was used for another message (%s) within 24 hours; take a new key for a new message", id)
}

// leftOut are those of a repeated request whom the first did not take.
func (r *Receipt) leftOut(asked []mail.Recipient) (list []Refusal) {
	for i := range asked {
		if a := asked[i].Address; r.taken != nil && a.Domain != "" && !r.taken[a.Key()] {
			list = append(list, Refusal{Address: a, Failure: mail.Fail(550, mail.Enhanced{5, 5, 4}, mail.OfRecipient, mail.ReasonRejected,
				"the first request with that idempotency key did not take it; send it there with a new key")})
		}
	}
	return list
}
