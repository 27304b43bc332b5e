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
	Octets     int64         `json:"octets" cbor:"11,keyasint" doc:"Of the messages held so far."`
	Hosts      []uint32      `json:"-" cbor:"12,keyasint,omitempty"` // to which they lead
	Texts      []Likeness    `json:"-" cbor:"13,keyasint,omitempty"`
}

const examples = 5

// episodeHosts is how many hosts of links an episode remembers.
const episodeHosts = 32

// episodeTexts is how many texts it remembers.
const episodeTexts = 16

// begin makes an episode if there is none.
func (p *profile) begin(t *Ticket) (begun bool) {
	if p.Episode != nil {
		return false
	}
	p.Episode = &Episode{Since: t.q.Now.UTC(), Credential: t.q.Credential, Score: t.answer.Score, Reasons: t.answer.Reasons}
	return true
}

// hold counts a held message in the episode.
func (p *profile) hold(t *Ticket, k kind, id mail.ID, recipients int64) {
	p.begin(t) // it may have been closed since
	e := p.Episode
	e.Last = t.q.Now.UTC()
	e.Messages++
	e.Recipients += recipients
	e.Octets += t.q.Size
	e.ByKind[k] += uint32(recipients)
	e.AnHour = max(e.AnHour, p.asked.Messages)
	if len(e.Examples) < examples {
		e.Examples = append(e.Examples, id)
	}
	alike := func(l Likeness) bool { return l.Alike(t.q.Text.Like) }
	if t.q.New > 0 && len(e.Texts) < episodeTexts && !slices.ContainsFunc(e.Texts, alike) {
		e.Texts = append(e.Texts, t.q.Text.Like)
	}
	for _, h := range t.q.Text.Hosts.all() {
		if len(e.Hosts) < episodeHosts && !slices.Contains(e.Hosts, h) {
			e.Hosts = append(e.Hosts, h)
		}
	}
}

// settle ends the episode, which is given. If it was usual, its texts are known
// from now on, its numbers are what is usual, and nothing is blamed any more;
// else its texts stay blamed for a while.
func (p *profile) settle(usual bool) (e *Episode, texts []Likeness) {
	e, p.Episode = p.Episode, nil
	if e != nil {
		texts = slices.Clone(e.Texts)
	}
	for i := range p.Texts.Recent {
		r := &p.Texts.Recent[i]
		switch {
		case r.Held == 0:
		case !usual:
			r.Since = p.Today
		default:
			if r.blamed() {
				texts = append(texts, r.Like)
			}
			r.Held, r.Since = 0, 0
		}
	}
	if usual {
		p.allow(e, texts, nil)
	}
	return e, texts
}

// allow makes what an episode held usual, beyond what already was so for those
// that have others to count for.
func (p *profile) allow(e *Episode, texts []Likeness, already *window) {
	n := float32(0)
	if e != nil {
		n = float32(e.Recipients)
	}
	for _, l := range texts {
		if r := p.Texts.find(l); r != nil {
			r.Held, r.Since = 0, 0
		}
		p.Texts.allow(l, p.Today, n)
	}
	if e == nil {
		return
	}
	p.Texts.teachHosts(e.Hosts, p.Today)
	with := func(k kind, n float32) float32 {
		if already == nil {
			return n
		}
		return n + max(p.Usual.Day[k], float32(already.day[k]))
	}
	for k, n := range e.ByKind {
		if n > 0 {
			p.Usual.allow(kind(k), with(kind(k), float32(n)))
		}
	}
	// What was held as a new text comes as a known one from now on.
	if n > 0 {
		p.Usual.allow(known, with(known, n))
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
// usual what was held is usual from now on, also where it counts with others;
// without, its texts go on being unusual for two weeks.
func (h *Habits) Close(ctx context.Context, t mail.TenantID, credential string, usual bool) error {
	owners, err := h.owners(ctx, t)
	if err != nil {
		return err
	}
	for _, who := range owners {
		if credential != "" && who.credential != credential {
			continue
		}
		if err := h.close(ctx, who, usual); err != nil {
			return err
		}
	}
	return h.Flush(ctx)
}

// close ends the episode of one credential in a tenant.
func (h *Habits) close(ctx context.Context, who owner, usual bool) error {
	var ep *Episode
	var texts []Likeness
	err := h.with(ctx, who, func(e *entry) {
		ep, texts = e.p.settle(usual)
		e.change()
	})
	if err != nil || ep == nil && len(texts) == 0 {
		return err
	}
	for _, all := range []owner{who.ofTenant(), who.everywhere()} {
		err := h.with(ctx, all, func(e *entry) {
			if ep != nil && all.level() == ofTenant {
				e.p.Octets = max(0, e.p.Octets-ep.Octets)
			}
			if usual && e.p.Today > 0 { // it has been asked before
				w := e.p.window(time.Unix(int64(e.p.newest)*3600, 0))
				e.p.allow(ep, texts, &w)
			}
			if e.p.Today > 0 {
				e.change()
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *Habits) with(ctx context.Context, who owner, fn func(*entry)) error {
	e, err := h.open(ctx, who, time.Time{})
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	fn(e)
	return nil
}
