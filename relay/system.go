package relay

import (
	"context"
	"fmt"
	"io"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
	"behalf/mail/header"
	"behalf/mail/scan"
)

// Submit puts mail of the platform's own, a bounce or a notice, into the
// spool. It goes out from the null path, so that it is never answered by
// another. Write gets the id that the message will have; extra's writes go
// into the same transaction as the message.
func (in *Intake) Submit(ctx context.Context, from, to mail.Address, write func(w io.Writer, id mail.ID, messageID string) error, extra func(kv.Writer) error) (mail.ID, error) {
	now := time.Now().UTC()
	id := in.Spool.NewID(0, now)
	view, err := in.Directory.View(ctx, 0)
	if err != nil {
		return id, fmt.Errorf("opening the platform's own tenant: %w", err)
	}
	draft, scanner := in.Spool.Draft(), scan.New()
	defer draft.Discard()
	messageID := newMessageID(id, in.Planner.o.SendingDomain)
	if err := write(io.MultiWriter(draft, scanner), id, messageID); err != nil {
		return id, fmt.Errorf("writing a notice: %w", err)
	}
	if err := scanner.Close(); err != nil {
		return id, fmt.Errorf("writing a notice: %w", err)
	}
	h, err := header.Parse(scanner.Header())
	if err != nil {
		return id, fmt.Errorf("writing a notice: %w", err)
	}
	m := &mail.Message{
		ID: id, Door: mail.DoorSystem, Stream: mail.StreamTransactional, From: from, Subject: header.DecodeText(h.Get("Subject")),
		MessageID: messageID, Size: draft.Size(), HeaderSize: scanner.HeaderSize(), BodyHash: scanner.BodyHash(), Body: scanner.Form(),
		Envelope: mail.Envelope{UTF8: !to.ASCII() || scanner.Form().UTF8, EightBit: scanner.Form().EightBit},
		Accepted: now, NotBefore: now, Expires: now.Add(in.o.MaxAge),
	}
	for _, up := range in.Planner.ways(view).route {
		if in.Planner.available(view, up) {
			m.Wishes = append(m.Wishes, mail.Wish{Upstream: up, Methods: []mail.Method{mail.MethodName}})
		}
	}
	if len(m.Wishes) == 0 {
		return id, mail.Fail(451, mail.Enhanced{4, 3, 5}, mail.OfUs, mail.ReasonUpstreamAbsent, "the platform has no way out for its own mail")
	}
	m.Front = front(in.o.Hostname, m, h, false)
	rs := []mail.Recipient{{Address: to, State: mail.Queued, Notify: mail.NotifyNever, Next: now,
		Lane: mail.LaneFor(m.Wishes[0].Upstream, to.Domain, m.Stream)}}
	st, err := in.Spool.Put(ctx, draft, m, rs, &mail.Acceptance{}, extra)
	if err != nil {
		return id, err
	}
	in.Offer(st)
	return id, nil
}
