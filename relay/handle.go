package relay

import (
	"context"
	"errors"
	"sync"

	"behalf/mail"
)

// handle is a transaction as a door has it. When the transaction has ended the
// handle lets go of it, so that its memory can serve another: whatever a door does
// with the handle afterwards concerns nobody.
type handle struct{ t *transaction }

var errEnded = errors.New("the transaction has ended")

func (h *handle) Recipient(ctx context.Context, r mail.Recipient) error {
	if h.t == nil {
		return errEnded
	}
	return h.t.Recipient(ctx, r)
}

func (h *handle) Write(p []byte) (int, error) {
	if h.t == nil {
		return 0, errEnded
	}
	return h.t.Write(p)
}

func (h *handle) Commit(ctx context.Context) (Receipt, error) {
	t := h.t
	if t == nil {
		return Receipt{}, errEnded
	}
	r, err := t.Commit(ctx) // after a panic it can still be aborted
	h.t = nil
	t.in.transactions.put(t)
	return r, err
}

func (h *handle) Abort() {
	if t := h.t; t != nil {
		h.t = nil
		t.Abort()
		t.in.transactions.put(t)
	}
}

// transactions lends the memory of transactions, 4 KiB each.
type transactions struct{ pool sync.Pool }

// maxFates bounds the fates whose memory is kept with that of a transaction.
const maxFates = 8

// get gives a transaction that is empty.
func (p *transactions) get() *transaction {
	if t, ok := p.pool.Get().(*transaction); ok {
		return t
	}
	return new(transaction)
}

// put takes back one that has ended. Of what it made nothing is used again but its
// fates and its room, which nobody else ever has.
func (p *transactions) put(t *transaction) {
	fates := t.fates
	t.room.reset()
	*t = transaction{room: t.room}
	if cap(fates) <= maxFates {
		clear(fates)
		t.fates = fates[:0]
	}
	p.pool.Put(t)
}
