package relay

import (
	"context"

	"behalf/internal/kv"
	"behalf/mail"
	"behalf/tenant/suppress"
)

// suppress takes out the recipients that asked this tenant not to mail them in
// the message's stream. They count as accepted, and their state says why
// nothing is sent. The stream is known only now, after the header.
func (t *transaction) suppress(ctx context.Context, m *mail.Message) error {
	return t.in.Store.View(ctx, func(r kv.Reader) error {
		for i := range t.recipients {
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
	err = t.in.Store.View(ctx, func(r kv.Reader) error {
		e, err := suppress.Find(r, t.view.Tenant.ID, stream, a)
		yes = e != nil
		return err
	})
	return yes, err
}
