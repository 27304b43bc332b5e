package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
	"behalf/spool"
	"behalf/tenant/suppress"
)

// ErrLink is returned for an unsubscribe link that is not one of ours, or
// whose message is no longer kept.
var ErrLink = errors.New("this link is not valid any more")

// Unsubscription is what a link of ours asks for.
type Unsubscription struct {
	Message   mail.ID
	Recipient int
	Address   mail.Address
	Stream    string
	From      mail.Address
}

// Unsubscription reads a link's token without doing anything: mail scanners
// follow links, people press buttons.
func (in *Intake) Unsubscription(ctx context.Context, token string) (Unsubscription, error) {
	id, i, err := in.Planner.o.Tokens.ParseUnsubscribe(token)
	if err != nil {
		return Unsubscription{}, ErrLink
	}
	st, err := in.Spool.Load(ctx, id)
	if errors.Is(err, spool.ErrNotFound) {
		return Unsubscription{}, ErrLink
	}
	if err != nil {
		return Unsubscription{}, fmt.Errorf("opening the message of an unsubscribe link: %w", err)
	}
	defer st.Release()
	if i >= len(st.Recipients) {
		return Unsubscription{}, ErrLink
	}
	return Unsubscription{Message: id, Recipient: i, Address: st.Recipients[i].Address, Stream: st.Message.Stream, From: st.Message.From}, nil
}

// Unsubscribe puts the recipient of a link on its tenant's suppression list.
func (in *Intake) Unsubscribe(ctx context.Context, token string) (Unsubscription, error) {
	u, err := in.Unsubscription(ctx, token)
	if err != nil {
		return u, err
	}
	now := time.Now().UTC()
	err = in.Spool.Update(ctx, func(w kv.Writer) error {
		known, err := suppress.Find(w, u.Message.Tenant(), u.Stream, u.Address)
		if err != nil || known != nil {
			return err // pressed twice, or on the list for another reason
		}
		e := suppress.Entry{Stream: u.Stream, Address: u.Address.String(), Reason: suppress.Unsubscribed, Added: now, Message: u.Message}
		if err := in.Lists.Add(w, u.Message.Tenant(), e); err != nil {
			return err
		}
		return in.Spool.Append(w, mail.Event{At: now, Type: mail.EventUnsubscribed, Message: u.Message, Recipients: []int{u.Recipient}})
	})
	return u, err
}
