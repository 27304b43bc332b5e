package habit

import (
	"context"
	"slices"
	"time"

	"behalf/mail"
)

// Episode is unusual mail of one credential that is held, from the first message
// on until somebody says what it was.
type Episode struct {
	Credential string        `json:"credential" cbor:"1,keyasint"`
	Since      time.Time     `json:"since" cbor:"2,keyasint"`
	Last       time.Time     `json:"last" cbor:"3,keyasint" doc:"When a message was held last."`
	Messages   int64         `json:"messages" cbor:"4,keyasint" doc:"Messages held so far, in whole or in part."`
	Recipients int64         `json:"recipients" cbor:"5,keyasint" doc:"New recipients held so far."`
	Score      int64         `json:"score" cbor:"6,keyasint" doc:"Of the first message."`
	Reasons    []Reason      `json:"reasons" cbor:"7,keyasint" doc:"Of the first message."`
	Examples   []mail.ID     `json:"examples" cbor:"8,keyasint" doc:"A few of the messages."`
	ByKind     [kinds]uint32 `json:"-" cbor:"9,keyasint"`
	AnHour     uint32        `json:"-" cbor:"10,keyasint,omitempty"` // most messages asked about in one
}

const examples = 5

// hold counts a held message in the episode.
func (p *profile) hold(t *Ticket, id mail.ID, recipients int64) {
	e := p.Episode
	if e == nil { // closed since it was asked
		e = &Episode{Since: t.q.Now.UTC(), Credential: t.e.owner.credential, Score: t.answer.Score, Reasons: t.answer.Reasons}
		p.Episode = e
	}
	e.Last = t.q.Now.UTC()
	e.Messages++
	e.Recipients += recipients
	e.ByKind[t.kind] += uint32(recipients)
	e.AnHour = max(e.AnHour, p.asked.Messages)
	if len(e.Examples) < examples {
		e.Examples = append(e.Examples, id)
	}
}

// settle ends the episode. If it was usual, its texts are known from now on and
// its numbers are what is usual; else its texts stay blamed.
func (p *profile) settle(usual bool) {
	e := p.Episode
	p.Episode = nil
	if !usual {
		return
	}
	for i := range p.Texts.Recent {
		if r := &p.Texts.Recent[i]; r.Held > 0 {
			if r.blamed() {
				p.Texts.teach(r.Like, p.Today, knownAfter)
			}
			r.Held = 0
		}
	}
	if e == nil {
		return
	}
	// What was held as a new text comes as a known one from now on.
	n := float32(e.Recipients)
	p.Usual.Day[known], p.Usual.Hour[known] = max(p.Usual.Day[known], n), max(p.Usual.Hour[known], n)
	for k, n := range e.ByKind {
		p.Usual.Day[k], p.Usual.Hour[k] = max(p.Usual.Day[k], float32(n)), max(p.Usual.Hour[k], float32(n))
	}
	p.Usual.Messages = max(p.Usual.Messages, float32(e.AnHour))
}

// Episodes are those of a tenant that nobody has closed, by credential.
func (h *Habits) Episodes(ctx context.Context, t mail.TenantID) ([]Episode, error) {
	owners, err := h.owners(ctx, t)
	if err != nil {
		return nil, err
	}
	var list []Episode
	for _, who := range owners {
		e, err := h.open(ctx, who, time.Time{})
		if err != nil {
			return nil, err
		}
		if ep := e.p.Episode; ep != nil {
			c := *ep
			c.Reasons, c.Examples = slices.Clone(ep.Reasons), slices.Clone(ep.Examples)
			list = append(list, c)
		}
		e.mu.Unlock()
	}
	return list, nil
}

// Close ends the episodes of a tenant, or of one of its credentials alone. With
// usual what was held is usual from now on; without, its texts go on being
// unusual.
func (h *Habits) Close(ctx context.Context, t mail.TenantID, credential string, usual bool) error {
	owners, err := h.owners(ctx, t)
	if err != nil {
		return err
	}
	for _, who := range owners {
		if credential != "" && who.credential != credential {
			continue
		}
		e, err := h.open(ctx, who, time.Time{})
		if err != nil {
			return err
		}
		e.p.settle(usual)
		e.dirty = true
		e.mu.Unlock()
	}
	return h.Flush(ctx)
}
