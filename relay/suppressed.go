package relay

import (
	"context"
	"fmt"

	"behalf/internal/kv"
	"behalf/mail"
	"behalf/tenant/suppress"
)

// suppress takes out the recipients that asked this tenant not to mail them in
// the message's stream. They count as accepted, and their state says why
// nothing is sent. The stream is known only now, after the header.
func (t *transaction) suppress(ctx context.Context, m *mail.Message) error {
	for i := range t.recipients {
		if t.mayBeListed(m, i) {
			return t.suppressFrom(ctx, m, i)
		}
	}
	return ctx.Err()
}

// mayBeListed tells whether the list must be asked for a recipient.
func (t *transaction) mayBeListed(m *mail.Message, i int) bool {
	return t.in.Lists.May(m.Tenant, m.Stream, t.recipients[i].Address)
}

// suppressFrom is suppress from a recipient on who may be on the list.
func (t *transaction) suppressFrom(ctx context.Context, m *mail.Message, first int) error {
	return t.in.Store.View(ctx, func(r kv.Reader) error {
		for i := first; i < len(t.recipients); i++ {
			if !t.mayBeListed(m, i) {
				continue
			}
			e, err := suppress.Find(r, m.Tenant, m.Stream, t.recipients[i].Address)
			if err != nil {
				return err
			}
			if e != nil {
				t.recipients[i] = t.recipients[i].End(mail.Suppressed, string(e.Reason), t.now)
			}
		}
		return nil
	})
}

// suppressed asks for one recipient before the stream of a hint is known.
func (t *transaction) suppressed(ctx context.Context, a mail.Address) (yes bool, err error) {
	stream := t.hints.Stream
	if stream == "" {
		stream = mail.StreamTransactional
	}
	if !t.in.Lists.May(t.view.Tenant.ID, stream, a) {
		return false, ctx.Err()
	}
	err = t.in.Store.View(ctx, func(r kv.Reader) error {
		e, err := suppress.Find(r, t.view.Tenant.ID, stream, a)
		yes = e != nil
		return err
	})
	return yes, err
}

// Suppressed asks again, before an attempt long after the message was accepted.
// Mail of our own, bounces and notices, asks no list.
func (p *Planner) Suppressed(ctx context.Context, m *mail.Message, r *mail.Recipient) (reason string, yes bool, err error) {
	if p.o.Store == nil || m.Door == mail.DoorSystem {
		return "", false, nil
	}
	err = p.o.Store.View(ctx, func(rd kv.Reader) error {
		e, err := suppress.Find(rd, m.Tenant, m.Stream, r.Address)
		if e != nil {
			reason, yes = string(e.Reason), true
		}
		return err
	})
	if err != nil {
		return "", false, fmt.Errorf("asking whether %s may be mailed: %w", r.Address, err)
	}
	return reason, yes, nil
}
