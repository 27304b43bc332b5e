package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"behalf/internal/blob"
	"behalf/internal/kv"
	"behalf/limit"
	"behalf/mail"
	"behalf/mail/header"
	"behalf/mail/render"
	"behalf/mail/sign"
	"behalf/spool"
	"behalf/tenant"
	"behalf/tenant/dnscheck"
	"behalf/tenant/method"
	"behalf/upstream"
)

// PlannerOptions are the platform's side of every plan.
type PlannerOptions struct {
	SendingDomain string
	ReturnPath    string // host below SendingDomain that takes bounces
	PlatformName  string // what stands after "via"
	Notify        string // the platform's own address
	PublicURL     string // links in mail begin with it
	Tokens        Tokens
	Metrics       *Metrics
	Store         kv.Store // of the suppression lists; nil: they are asked at accept only
	Capture       bool     // development: the DNS is taken to show what it should, and all mail stays here

	MX            Site
	Platform      upstream.Upstream // nil: the platform has no smart host
	PlatformSigns bool              // it signs with DKIM itself
	Mailbox       upstream.Upstream // nil: no local delivery
	ReverseDNS    *ReverseDNS       // of what MX sends from; nil: it is taken to be in order
	// Connection builds the upstream of a tenant's connection.
	Connection func(v *tenant.View, c *tenant.Connection) (upstream.Upstream, error)
}

// Site is direct delivery, which also knows which domains share an MX site.
type Site interface {
	upstream.Upstream
	Site(ctx context.Context, domain string) (string, error)
}

// Planner turns wishes into hops: at accept to see what may be promised, and
// at each attempt to decide with the keys, records and settings of that moment.
type Planner struct {
	dir    *tenant.Directory
	check  *dnscheck.Checker
	book   *upstream.Book
	limits *limit.Limiter
	o      PlannerOptions

	returnPath string // the platform's host of return paths
	places     *places
	made       *sign.Cache
}

// keptSignatures serve messages with many destinations: about 2 MiB.
const keptSignatures = 4096

// NewPlanner makes a Planner. It starts nothing.
func NewPlanner(dir *tenant.Directory, check *dnscheck.Checker, book *upstream.Book, limits *limit.Limiter, o PlannerOptions) *Planner {
	return &Planner{dir: dir, check: check, book: book, limits: limits, o: o, returnPath: o.ReturnPath + "." + o.SendingDomain, places: newPlaces(), made: sign.NewCache(keptSignatures)}
}

// Plan resolves one wish of a message now. The error is a Failure: of the
// route where no method holds there any more, of the message where its tenant
// was deleted.
func (p *Planner) Plan(ctx context.Context, m *mail.Message, wish int) (*mail.Hop, upstream.Upstream, error) {
	w := m.Wishes[wish]
	v, err := p.dir.View(ctx, m.Tenant)
	if errors.Is(err, tenant.ErrNotFound) { // numbers are not used again: it stays so
		return nil, nil, mail.Fail(550, mail.Enhanced{5, 7, 1}, mail.OfMessage, mail.ReasonPolicy, "the tenant of this message was deleted")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("opening tenant of %s: %w", m.ID, err)
	}
	u, err := p.upstream(v, w.Upstream)
	if err != nil {
		return nil, nil, err
	}
	if m.Door == mail.DoorSystem {
		return p.systemHop(ctx, w), u, nil
	}
	var in facts
	p.gather(ctx, v, m, &in)
	in.Route = p.stepsOf(v, w.Upstream)
	in.AllowFromChange = m.FromChange
	held, bad := method.Hold(&in.Input, w)
	if bad != nil {
		return nil, nil, bad
	}
	hop, err := p.hop(v, m, w.Upstream, &in, held)
	return hop, u, err
}

// hop fills in what the method means at the upstream.
func (p *Planner) hop(v *tenant.View, m *mail.Message, id mail.UpstreamID, in *facts, held method.Held) (*mail.Hop, error) {
	hop := &mail.Hop{Upstream: id, Method: held.Method, ReturnPath: mail.ReturnPath{Host: p.returnPath, PerMessage: !m.Verp}}
	switch held.Method {
	case mail.MethodDomain:
		if held.OwnPath {
			hop.ReturnPath.Host = in.Domain.ReturnPath
		}
	case mail.MethodConnection:
		name := strings.TrimPrefix(string(id), mail.ConnectionPrefix)
		c, ok := v.Connection(name)
		if !ok {
			return nil, mail.Fail(451, mail.Enhanced{4, 3, 5}, mail.OfRoute, mail.ReasonUpstreamAbsent, "connection %s does not exist any more", name)
		}
		account, ok := p.account(v, id, c)
		if !ok {
			return nil, mail.Fail(550, mail.Enhanced{5, 7, 1}, mail.OfRoute, mail.ReasonSenderRefused,
				"connection %s has no address of its own; list it under senders", c.Name)
		}
		hop.ReturnPath = mail.ReturnPath{Fixed: account}
	case mail.MethodAddress:
		hop.Edits = []mail.Edit{{Op: mail.EditSet, Name: "Sender", Value: p.tenantAddress(v, mail.Address{}).String()}}
	case mail.MethodName:
		hop.Edits = p.rename(v, m, in.IdentityOK)
	}
	if held.Sign {
		hop.Sign = in.selectors(id, held.Method)
	}
	if len(hop.Sign) > 0 {
		hop.Front = append(hop.Front, mail.HopHeader{Name: "Feedback-ID", Value: p.feedbackID(v, m)})
	}
	hop.Single = m.Unsubscribe
	return hop, nil
}

// unsubscribe is the pair of fields that lets a recipient leave a list by one
// click (RFC 2369, RFC 8058); the signatures cover it.
func (p *Planner) unsubscribe(id mail.ID, recipient int) []mail.HopHeader {
	return []mail.HopHeader{
		{Name: "List-Unsubscribe", Value: "<" + p.o.PublicURL + "/u/" + p.o.Tokens.Unsubscribe(id, recipient) + ">"},
		{Name: "List-Unsubscribe-Post", Value: "List-Unsubscribe=One-Click"},
	}
}

// selectors lists the keys to sign with: those that the DNS shows of the
// domain that the method signs for, and on the way to an MX also the
// platform's RSA key, for feedback loops.
func (f *facts) selectors(id mail.UpstreamID, mth mail.Method) []mail.Selector {
	if mth != mail.MethodDomain {
		return f.sending
	}
	if id != mail.UpstreamMX || f.platform == nil {
		return f.own
	}
	sel := slices.Clone(f.own)
	for _, s := range f.sending {
		if algorithm(f.platform, s.Name) == "rsa-2048" {
			sel = append(sel, s)
		}
	}
	return sel
}

func algorithm(d *tenant.Domain, selector string) string {
	for _, k := range d.DKIM {
		if k.Selector == selector {
			return k.Algorithm
		}
	}
	return ""
}

// rename is method name: the tenant's name on the platform's domain.
func (p *Planner) rename(v *tenant.View, m *mail.Message, known bool) []mail.Edit {
	display := m.FromName
	if id, ok := v.Identity(m.From); display == "" && ok {
		display = id.DisplayName
	}
	if display == "" {
		display = v.Tenant.DisplayName
	}
	if display == "" {
		display = v.Tenant.Name
	}
	display = strings.Map(plainRune, display)
	local := mail.Address{}
	if known {
		local = m.From
	}
	from := header.FormatMailbox(strings.TrimSpace(display)+" via "+p.o.PlatformName, p.tenantAddress(v, local))
	edits := []mail.Edit{
		{Op: mail.EditRemove, Name: "Sender"},
		{Op: mail.EditRemove, Name: "DKIM-Signature"},
		{Op: mail.EditSet, Name: "From", Value: from},
	}
	if m.ReplyTo == "" {
		edits = append(edits, mail.Edit{Op: mail.EditSet, Name: "Reply-To", Value: header.FormatMailbox(m.FromName, m.From)})
	}
	return edits
}

// plainRune takes out of a display name what could make it look like another
// sender: the at sign in all its widths, and what turns the text around.
func plainRune(r rune) rune {
	switch {
	case r == '@', r == '\ufe6b', r == '\uff20', r < ' ', r == 0x7f:
		return ' '
	case '\u200e' <= r && r <= '\u200f', '\u202a' <= r && r <= '\u202e', '\u2066' <= r && r <= '\u2069':
		return -1
	}
	return r
}

// tenantAddress is the tenant's address at the sending domain:
// <identity or tenant>.<tenant>.
func (p *Planner) tenantAddress(v *tenant.View, identity mail.Address) mail.Address {
	local := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '_' || r == '.' || r == '+' {
			return r
		}
		return -1
	}, strings.ToLower(identity.Local))
	local = strings.Trim(local, ".")
	for strings.Contains(local, "..") {
		local = strings.ReplaceAll(local, "..", ".")
	}
	room := max(0, mail.MaxLocal-1-len(v.Tenant.Name))
	if local = strings.Trim(local[:min(len(local), room)], "."); local == "" {
		local = v.Tenant.Name[:min(len(v.Tenant.Name), room)]
	}
	return mail.Address{Local: local + "." + v.Tenant.Name, Domain: p.o.SendingDomain}
}

// feedbackID lets mailbox providers count complaints by campaign, stream and
// tenant; the last part is the platform (Google's Feedback-ID).
func (p *Planner) feedbackID(v *tenant.View, m *mail.Message) string {
	return feedbackPart(m.Tag) + ":" + m.Stream + ":" + v.Tenant.Name + ":" + feedbackPart(p.o.SendingDomain)
}

func feedbackPart(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == ':' || r >= 0x7f {
			return '_'
		}
		return r
	}, s)
}

// systemHop is how our own bounces and notices go: signed by the platform,
// from the null path.
func (p *Planner) systemHop(ctx context.Context, w mail.Wish) *mail.Hop {
	hop := &mail.Hop{Upstream: w.Upstream, Method: mail.MethodName}
	if d, err := p.sendingDomain(ctx); err == nil && !(w.Upstream == mail.UpstreamPlatform && p.o.PlatformSigns) {
		var found method.Domain
		hop.Sign = p.domain(ctx, 0, d, &found)
	}
	return hop
}

// booked is a connection's upstream, taken from the book for as long as it
// delivers.
type booked struct {
	p  *Planner
	v  *tenant.View
	c  *tenant.Connection
	id mail.UpstreamID
}

// Deliver implements upstream.Upstream.
func (b *booked) Deliver(ctx context.Context, j *upstream.Job) []upstream.Result {
	key := upstream.Key{Tenant: b.v.Tenant.ID, ID: b.id, Revision: b.c.Revision}
	u, done := b.p.book.Get(ctx, key, func(context.Context) (upstream.Upstream, error) { return b.p.o.Connection(b.v, b.c) })
	defer done()
	return u.Deliver(ctx, j)
}

// Traits implements upstream.Upstream; those of any submission server.
func (b *booked) Traits() upstream.Traits { return upstream.Traits{} }

// Sender is the envelope sender for one recipient under a hop.
func (p *Planner) Sender(m *mail.Message, hop *mail.Hop, index int) mail.Address {
	return p.o.Tokens.ReturnPath(m, hop, index)
}

// Site names the place that a lane's mail goes to: for direct delivery the MX
// site that several domains may share, else the lane's upstream itself.
func (p *Planner) Site(ctx context.Context, m *mail.Message, lane mail.Lane) (string, error) {
	u, domain, _ := lane.Parts()
	if u == mail.UpstreamMX && !p.o.Capture {
		return p.o.MX.Site(ctx, domain)
	}
	if strings.HasPrefix(string(u), mail.ConnectionPrefix) {
		return fmt.Sprintf("%d/%s", m.Tenant, u), nil
	}
	return string(u), nil
}

// Render gives the bytes of a message for a hop, once its capabilities are
// known. Index is the recipient that a rendering of its own is for.
func (p *Planner) Render(st *spool.Stored, hop *mail.Hop, index int, body func(context.Context) (blob.Body, error)) func(context.Context, upstream.Caps) (upstream.Rendered, error) {
	if hop.Single {
		own := *hop
		own.Front = append(own.Front[:len(own.Front):len(own.Front)], p.unsubscribe(st.Message.ID, index)...)
		hop = &own
	}
	r := &rendering{p: p, st: st, hop: hop, body: body}
	return r.render
}

// rendering is a message for a hop on its way to be rendered.
type rendering struct {
	p     *Planner
	st    *spool.Stored
	hop   *mail.Hop
	body  func(context.Context) (blob.Body, error)
	by    *render.Renderer // nil until it is asked for
	first counted          // what was rendered first
}

func (r *rendering) render(ctx context.Context, caps upstream.Caps) (upstream.Rendered, error) {
	if r.by == nil {
		in, err := r.input(ctx)
		if err != nil {
			return nil, err
		}
		r.by = render.New(in)
	}
	out, err := r.by.For(ctx, render.Caps{EightBitMIME: caps.EightBitMIME, SMTPUTF8: caps.SMTPUTF8, BinaryMIME: caps.BinaryMIME})
	if err != nil {
		return nil, err
	}
	if r.first.Rendered == nil {
		r.first = counted{Rendered: out, metrics: r.p.o.Metrics}
		return &r.first, nil
	}
	return &counted{Rendered: out, metrics: r.p.o.Metrics}, nil
}

// input opens what the renderer needs.
func (r *rendering) input(ctx context.Context) (render.Input, error) {
	m := r.st.Message
	in := render.Input{Message: m, Hop: r.hop, Now: time.Now, Made: r.p.made}
	if r.st.Young != nil {
		in.Body = render.Memory(r.st.Young)
	} else {
		b, err := r.body(ctx)
		if err != nil {
			return in, fmt.Errorf("opening the body of %s: %w", m.ID, err)
		}
		in.Body = b
	}
	for _, sel := range r.hop.Sign {
		signer, err := r.p.dir.Signer(ctx, sel)
		if err != nil {
			return in, fmt.Errorf("opening DKIM key %s of %s: %w", sel.Name, sel.Domain, err)
		}
		in.Keys = append(in.Keys, sign.Key{Domain: sel.Domain, Selector: sel.Name, Signer: signer})
	}
	return in, nil
}

// counted counts the signatures of a rendering when they are computed.
type counted struct {
	*render.Rendered
	metrics *Metrics
	signed  bool
}

// Prepare implements upstream.Rendered.
func (c *counted) Prepare(ctx context.Context) error {
	err := c.Rendered.Prepare(ctx)
	if err == nil && !c.signed {
		c.signed = true // computed once, however often it is asked for
		c.metrics.signed(c.Computed())
	}
	return err
}

// Signed implements upstream.Rendered: nothing was signed that was not sent.
func (c *counted) Signed() []string {
	if !c.signed {
		return nil
	}
	return c.Rendered.Signed()
}
