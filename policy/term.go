package policy

import (
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"

	"behalf/policy/plan"
)

// fields is the set of input fields that a policy set refers to. Fields that
// are cheap to build stand for their whole object; costly ones have a bit each.
type fields uint32

const (
	fTime fields = 1 << iota
	fSession
	fTenant
	fCredential
	fStream
	fUsage
	fUsageCredential
	fEnvelope
	fRecipient
	fFirstTime
	fSuppressed
	fIdentity
	fMessage
	fHeaders
	fAttachments
	fURLHosts
	fCandidates
	fAuthentication
	fReverseDNS
	fBulk
	fUnusual
	allFields = 1<<iota - 1
)

// fieldsOf gives the fields that the reference input.<path…> may read. A path
// that ends early, or goes on with a variable (given as ""), reads all below.
func fieldsOf(path []string) fields {
	second := ""
	if len(path) > 1 {
		second = path[1]
	}
	top := ""
	if len(path) > 0 {
		top = path[0]
	}
	switch top {
	case "":
		return allFields
	case "time":
		return fTime
	case "session":
		return fSession
	case "tenant":
		return fTenant
	case "credential":
		return fCredential
	case "stream":
		return fStream
	case "envelope":
		return fEnvelope | below(second, map[string]fields{"from": 0, "from_domain": 0, "size": 0, "recipients": 0, "utf8": 0,
			"eight_bit": 0, "require_tls": 0, "new_recipients": fFirstTime})
	case "identity":
		return fIdentity
	case "candidates":
		return fCandidates
	case "bulk":
		return fBulk
	case "unusual":
		return fUnusual
	case "authentication":
		return fAuthentication | below(second, map[string]fields{"method": 0, "from_domain": 0, "spf": 0, "dkim": 0,
			"dmarc_policy": 0, "reverse_dns": fReverseDNS})
	case "usage":
		return fUsage | below(second, map[string]fields{"1h": 0, "24h": 0, "credential": fUsageCredential})
	case "recipient":
		return fRecipient | below(second, map[string]fields{"address": 0, "domain": 0, "site": 0, "family": 0,
			"first_time": fFirstTime, "suppressed": fSuppressed})
	case "message":
		return fMessage | below(second, map[string]fields{"from": 0, "from_domain": 0, "from_name": 0, "subject": 0,
			"message_id": 0, "size": 0, "tag": 0, "one_click": 0, "headers": fHeaders, "attachments": fAttachments, "url_hosts": fURLHosts})
	}
	return allFields
}

// below picks the bit of one sub-field, or those of all when the name is open.
func below(name string, bits map[string]fields) fields {
	if f, ok := bits[name]; ok {
		return f
	}
	var all fields
	for _, f := range bits {
		all |= f
	}
	return all
}

// The names of input fields, built once and shared by all inputs.
var (
	keyHour            = ast.StringTerm("1h")
	keyDay             = ast.StringTerm("24h")
	keyAddr            = ast.StringTerm("addr")
	keyAddress         = ast.StringTerm("address")
	keyAllowFromChange = ast.StringTerm("allow_from_change")
	keyAttachments     = ast.StringTerm("attachments")
	keyAuthentication  = ast.StringTerm("authentication")
	keyBulk            = ast.StringTerm("bulk")
	keyDetail          = ast.StringTerm("detail")
	keyDKIM            = ast.StringTerm("dkim")
	keyDMARCPolicy     = ast.StringTerm("dmarc_policy")
	keyFamily          = ast.StringTerm("family")
	keyOneClick        = ast.StringTerm("one_click")
	keyPoints          = ast.StringTerm("points")
	keyReasons         = ast.StringTerm("reasons")
	keyReverseDNS      = ast.StringTerm("reverse_dns")
	keyScore           = ast.StringTerm("score")
	keySPF             = ast.StringTerm("spf")
	keyUnusual         = ast.StringTerm("unusual")
	keyBounces         = ast.StringTerm("bounces")
	keyCandidates      = ast.StringTerm("candidates")
	keyComplaints      = ast.StringTerm("complaints")
	keyContentType     = ast.StringTerm("content_type")
	keyCredential      = ast.StringTerm("credential")
	keyDomain          = ast.StringTerm("domain")
	keyDoor            = ast.StringTerm("door")
	keyEightBit        = ast.StringTerm("eight_bit")
	keyEnvelope        = ast.StringTerm("envelope")
	keyFilename        = ast.StringTerm("filename")
	keyFirstTime       = ast.StringTerm("first_time")
	keyForeign         = ast.StringTerm("foreign")
	keyFrom            = ast.StringTerm("from")
	keyFromDomain      = ast.StringTerm("from_domain")
	keyFromName        = ast.StringTerm("from_name")
	keyHeaders         = ast.StringTerm("headers")
	keyHeld            = ast.StringTerm("held")
	keyHeldOctets      = ast.StringTerm("held_octets")
	keyTenantHeld      = ast.StringTerm("tenant_held_octets")
	keyHelo            = ast.StringTerm("helo")
	keyHolds           = ast.StringTerm("holds")
	keyID              = ast.StringTerm("id")
	keyIdentity        = ast.StringTerm("identity")
	keyLabels          = ast.StringTerm("labels")
	keyMessage         = ast.StringTerm("message")
	keyMessageID       = ast.StringTerm("message_id")
	keyMessages        = ast.StringTerm("messages")
	keyMethod          = ast.StringTerm("method")
	keyMethods         = ast.StringTerm("methods")
	keyName            = ast.StringTerm("name")
	keyNewRecipients   = ast.StringTerm("new_recipients")
	keyReason          = ast.StringTerm("reason")
	keyRecipient       = ast.StringTerm("recipient")
	keyRecipients      = ast.StringTerm("recipients")
	keyRequireTLS      = ast.StringTerm("require_tls")
	keyScope           = ast.StringTerm("scope")
	keySession         = ast.StringTerm("session")
	keySite            = ast.StringTerm("site")
	keySize            = ast.StringTerm("size")
	keyStream          = ast.StringTerm("stream")
	keySubject         = ast.StringTerm("subject")
	keySuppressed      = ast.StringTerm("suppressed")
	keySuspended       = ast.StringTerm("suspended")
	keyTag             = ast.StringTerm("tag")
	keyTenant          = ast.StringTerm("tenant")
	keyTime            = ast.StringTerm("time")
	keyTLS             = ast.StringTerm("tls")
	keyUntil           = ast.StringTerm("until")
	keyUpstream        = ast.StringTerm("upstream")
	keyURLHosts        = ast.StringTerm("url_hosts")
	keyUsage           = ast.StringTerm("usage")
	keyUsername        = ast.StringTerm("username")
	keyUTF8            = ast.StringTerm("utf8")
	keyVerified        = ast.StringTerm("verified")
	keyWhy             = ast.StringTerm("why")
)

type pair = [2]*ast.Term

func text[S ~string](s S) *ast.Term { return ast.StringTerm(string(s)) }
func number(n int64) *ast.Term      { return ast.InternedTerm(n) }
func boolean(b bool) *ast.Term      { return ast.InternedTerm(b) }

func texts[S ~string](list []S) *ast.Term {
	terms := make([]*ast.Term, len(list))
	for i, s := range list {
		terms[i] = text(s)
	}
	return ast.ArrayTerm(terms...)
}

// once gives the term kept in c, built at the first call. Two callers at once
// may both build it; either result serves.
func once(c *atomic.Pointer[ast.Term], build func() *ast.Term) *ast.Term {
	if t := c.Load(); t != nil {
		return t
	}
	t := build()
	c.Store(t)
	return t
}

// lazily marks that objects may be made field by field.
const lazily fields = 1 << 31

// view is the input as a plan sees it: an input that can be made field by field
// is, so that nothing is built that no rule reads.
func view(in input, f fields) *ast.Term {
	switch in := in.(type) {
	case *SenderInput:
		return ofSenderInput.of(in, f|lazily)
	case *RecipientInput:
		return ofRecipientInput.of(in, f|lazily)
	case *MessageInput:
		return ofMessageInput.of(in, f|lazily)
	}
	return in.term(f)
}

func (in *SenderInput) term(f fields) *ast.Term    { return ofSenderInput.of(in, f) }
func (in *RecipientInput) term(f fields) *ast.Term { return ofRecipientInput.of(in, f) }
func (in *MessageInput) term(f fields) *ast.Term   { return ofMessageInput.of(in, f) }

// members are the fields of an object that Rego sees of a T.
type members[T any] []member[T]

// member is one field. It is there when any of its bits is asked for (none:
// always) and when make gives something.
type member[T any] struct {
	key  *ast.Term
	bits fields
	make func(v *T, f fields) *ast.Term
}

func (m *member[T]) term(v *T, f fields) *ast.Term {
	if m.bits != 0 && m.bits&f == 0 {
		return nil
	}
	return m.make(v, f)
}

// of is the object, made now or field by field.
func (m members[T]) of(v *T, f fields) *ast.Term {
	o := object[T]{v: v, f: f &^ lazily, members: m}
	if f&lazily == 0 {
		return o.Whole()
	}
	return o.lazy()
}

// object is a T whose fields are made when they are asked for.
type object[T any] struct {
	plan.Lazy
	v       *T
	f       fields
	members members[T]
}

func (o object[T]) lazy() *ast.Term { return o.Of(&o) }

// Field makes the field of that name.
func (o *object[T]) Field(name string) *ast.Term {
	for i := range o.members {
		if m := &o.members[i]; string(m.key.Value.(ast.String)) == name {
			return m.term(o.v, o.f|lazily)
		}
	}
	return nil
}

// Whole makes the object.
func (o *object[T]) Whole() *ast.Term {
	var buf [13]pair
	pairs := buf[:0]
	for i := range o.members {
		if t := o.members[i].term(o.v, o.f); t != nil {
			pairs = append(pairs, pair{o.members[i].key, t})
		}
	}
	return ast.ObjectTerm(pairs...)
}

// What all stages of a submission have in common. Nil pointers count as empty.
var ofSenderInput = members[SenderInput]{
	{keyTime, fTime, func(in *SenderInput, _ fields) *ast.Term { return number(in.Time) }},
	{keySession, fSession, func(in *SenderInput, _ fields) *ast.Term { return orEmpty(in.Session).term() }},
	{keyTenant, fTenant, func(in *SenderInput, _ fields) *ast.Term { return orEmpty(in.Tenant).term() }},
	{keyCredential, fCredential, func(in *SenderInput, _ fields) *ast.Term { return orEmpty(in.Credential).term() }},
	{keyStream, fStream, func(in *SenderInput, _ fields) *ast.Term { return text(in.Stream) }},
	{keyUsage, fUsage, func(in *SenderInput, f fields) *ast.Term { return ofUsage.of(orEmpty(in.Usage), f) }},
	{keyEnvelope, fEnvelope, func(in *SenderInput, f fields) *ast.Term { return ofEnvelope.of(&in.Envelope, f) }},
}

var ofRecipientInput = append(
	inherited(ofSenderInput, func(in *RecipientInput) *SenderInput { return &in.SenderInput }),
	member[RecipientInput]{keyRecipient, fRecipient, func(in *RecipientInput, f fields) *ast.Term { return ofRecipient.of(&in.Recipient, f) }},
)

var ofMessageInput = append(
	inherited(ofSenderInput, func(in *MessageInput) *SenderInput { return &in.SenderInput }),
	member[MessageInput]{keyIdentity, fIdentity, func(in *MessageInput, f fields) *ast.Term { return ofIdentity.of(&in.Identity, f) }},
	member[MessageInput]{keyMessage, fMessage, func(in *MessageInput, f fields) *ast.Term { return ofMessage.of(&in.Message, f) }},
	member[MessageInput]{keyCandidates, fCandidates, func(in *MessageInput, _ fields) *ast.Term { return list(in.Candidates, (*Candidate).term) }},
	member[MessageInput]{keyAuthentication, fAuthentication, func(in *MessageInput, f fields) *ast.Term { return ofAuthentication.of(&in.Authentication, f) }},
	member[MessageInput]{keyBulk, fBulk, func(in *MessageInput, _ fields) *ast.Term { return list(in.Bulk, (*Bulk).term) }},
	member[MessageInput]{keyUnusual, fUnusual, func(in *MessageInput, f fields) *ast.Term { return ofUnusual.of(&in.Unusual, f) }},
)

// inherited are the members of a type that T embeds.
func inherited[T, E any](all members[E], embedded func(*T) *E) members[T] {
	mine := make(members[T], len(all))
	for i, m := range all {
		mine[i] = member[T]{m.key, m.bits, func(v *T, f fields) *ast.Term { return m.make(embedded(v), f) }}
	}
	return mine
}

func list[T any](all []T, term func(*T) *ast.Term) *ast.Term {
	terms := make([]*ast.Term, len(all))
	for i := range all {
		terms[i] = term(&all[i])
	}
	return ast.ArrayTerm(terms...)
}

func orEmpty[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	return p
}

func (s *Session) term() *ast.Term {
	return once(&s.cached, func() *ast.Term {
		return ast.ObjectTerm(
			pair{keyAddr, text(s.Addr)}, pair{keyHelo, text(s.Helo)},
			pair{keyTLS, text(s.TLS)}, pair{keyDoor, text(s.Door)})
	})
}

func (t *Tenant) term() *ast.Term {
	return once(&t.cached, func() *ast.Term {
		labels := make([]pair, 0, len(t.Labels))
		for k, v := range t.Labels {
			labels = append(labels, pair{text(k), text(v)})
		}
		o := []pair{
			pair{keyID, number(int64(t.ID))}, pair{keyName, text(t.Name)},
			pair{keyLabels, ast.ObjectTerm(labels...)}, pair{keyMethods, texts(t.Methods)},
			pair{keyAllowFromChange, boolean(t.AllowFromChange)},
		}
		if s := t.Suspended; s != nil {
			o = append(o, pair{keySuspended, ast.ObjectTerm(pair{keyReason, text(s.Reason)}, pair{keyUntil, text(s.Until)})})
		}
		return ast.ObjectTerm(o...)
	})
}

func (c *Credential) term() *ast.Term {
	return once(&c.cached, func() *ast.Term {
		return ast.ObjectTerm(pair{keyUsername, text(c.Username)}, pair{keyScope, text(c.Scope)})
	})
}

var ofUsage = members[Usage]{
	{keyHour, 0, func(u *Usage, f fields) *ast.Term { return ofWindow.of(&u.Hour, f) }},
	{keyDay, 0, func(u *Usage, f fields) *ast.Term { return ofWindow.of(&u.Day, f) }},
	{keyCredential, fUsageCredential, func(u *Usage, f fields) *ast.Term { return ofCredentialUsage.of(&u.Credential, f) }},
}

var ofCredentialUsage = members[CredentialUsage]{
	{keyHour, 0, func(u *CredentialUsage, f fields) *ast.Term { return ofWindow.of(&u.Hour, f) }},
	{keyDay, 0, func(u *CredentialUsage, f fields) *ast.Term { return ofWindow.of(&u.Day, f) }},
}

var ofWindow = members[Window]{
	{keyMessages, 0, func(w *Window, _ fields) *ast.Term { return number(w.Messages) }},
	{keyRecipients, 0, func(w *Window, _ fields) *ast.Term { return number(w.Recipients) }},
	{keyNewRecipients, 0, func(w *Window, _ fields) *ast.Term { return number(w.NewRecipients) }},
	{keyBounces, 0, func(w *Window, _ fields) *ast.Term { return number(w.Bounces) }},
	{keyComplaints, 0, func(w *Window, _ fields) *ast.Term { return number(w.Complaints) }},
}

var ofEnvelope = members[Envelope]{
	{keyFrom, 0, func(e *Envelope, _ fields) *ast.Term { return text(e.From) }},
	{keyFromDomain, 0, func(e *Envelope, _ fields) *ast.Term { return text(e.FromDomain) }},
	{keySize, 0, func(e *Envelope, _ fields) *ast.Term { return number(e.Size) }},
	{keyRecipients, 0, func(e *Envelope, _ fields) *ast.Term { return number(int64(e.Recipients)) }},
	{keyNewRecipients, 0, func(e *Envelope, _ fields) *ast.Term { return number(int64(e.NewRecipients)) }},
	{keyUTF8, 0, func(e *Envelope, _ fields) *ast.Term { return boolean(e.UTF8) }},
	{keyEightBit, 0, func(e *Envelope, _ fields) *ast.Term { return boolean(e.EightBit) }},
	{keyRequireTLS, 0, func(e *Envelope, _ fields) *ast.Term { return boolean(e.RequireTLS) }},
}

var ofRecipient = members[Recipient]{
	{keyAddress, 0, func(r *Recipient, _ fields) *ast.Term { return text(r.Address) }},
	{keyDomain, 0, func(r *Recipient, _ fields) *ast.Term { return text(r.Domain) }},
	{keySite, 0, func(r *Recipient, _ fields) *ast.Term { return text(r.Site) }},
	{keyFamily, 0, func(r *Recipient, _ fields) *ast.Term { return text(r.Family) }},
	{keyFirstTime, fFirstTime, func(r *Recipient, _ fields) *ast.Term { return boolean(r.FirstTime) }},
	{keySuppressed, fSuppressed, func(r *Recipient, _ fields) *ast.Term { return boolean(r.Suppressed) }},
}

var ofIdentity = members[Identity]{
	{keyAddress, 0, func(i *Identity, _ fields) *ast.Term { return text(i.Address) }},
	{keyVerified, 0, func(i *Identity, _ fields) *ast.Term { return boolean(i.Verified) }},
	{keyForeign, 0, func(i *Identity, _ fields) *ast.Term { return boolean(i.Foreign) }},
	{keyMethods, 0, func(i *Identity, _ fields) *ast.Term { return texts(i.Methods) }},
}

var ofMessage = members[Message]{
	{keyFrom, 0, func(m *Message, _ fields) *ast.Term { return text(m.From) }},
	{keyFromDomain, 0, func(m *Message, _ fields) *ast.Term { return text(m.FromDomain) }},
	{keyFromName, 0, func(m *Message, _ fields) *ast.Term { return text(m.FromName) }},
	{keySubject, 0, func(m *Message, _ fields) *ast.Term { return text(m.Subject) }},
	{keyMessageID, 0, func(m *Message, _ fields) *ast.Term { return text(m.MessageID) }},
	{keySize, 0, func(m *Message, _ fields) *ast.Term { return number(m.Size) }},
	{keyTag, 0, func(m *Message, _ fields) *ast.Term { return text(m.Tag) }},
	{keyOneClick, 0, func(m *Message, _ fields) *ast.Term { return boolean(m.OneClick) }},
	{keyHeaders, fHeaders, func(m *Message, _ fields) *ast.Term { return list(m.Headers, headerTerm) }},
	{keyAttachments, fAttachments, func(m *Message, _ fields) *ast.Term { return list(m.Attachments, (*Attachment).term) }},
	{keyURLHosts, fURLHosts, func(m *Message, _ fields) *ast.Term { return texts(m.URLHosts) }},
}

var ofAuthentication = members[Authentication]{
	{keyMethod, 0, func(a *Authentication, _ fields) *ast.Term { return text(a.Method) }},
	{keyFromDomain, 0, func(a *Authentication, _ fields) *ast.Term { return text(a.FromDomain) }},
	{keySPF, 0, func(a *Authentication, _ fields) *ast.Term { return boolean(a.SPF) }},
	{keyDKIM, 0, func(a *Authentication, _ fields) *ast.Term { return boolean(a.DKIM) }},
	{keyDMARCPolicy, 0, func(a *Authentication, _ fields) *ast.Term { return text(a.DMARCPolicy) }},
	{keyReverseDNS, 0, func(a *Authentication, _ fields) *ast.Term { return boolean(a.ReverseDNS) }},
}

var ofUnusual = members[Unusual]{
	{keyScore, 0, func(u *Unusual, _ fields) *ast.Term { return number(u.Score) }},
	{keyNewRecipients, 0, func(u *Unusual, _ fields) *ast.Term { return number(u.NewRecipients) }},
	{keyHeld, 0, func(u *Unusual, _ fields) *ast.Term { return number(u.Held) }},
	{keyHeldOctets, 0, func(u *Unusual, _ fields) *ast.Term { return number(u.HeldOctets) }},
	{keyTenantHeld, 0, func(u *Unusual, _ fields) *ast.Term { return number(u.TenantHeldOctets) }},
	{keyReasons, 0, func(u *Unusual, _ fields) *ast.Term { return list(u.Reasons, (*Points).term) }},
}

func headerTerm(h *[2]string) *ast.Term { return ast.ArrayTerm(text(h[0]), text(h[1])) }

func (a *Attachment) term() *ast.Term {
	return ast.ObjectTerm(pair{keyFilename, text(a.Filename)},
		pair{keyContentType, text(a.ContentType)}, pair{keySize, number(a.Size)})
}

func (c *Candidate) term() *ast.Term {
	return ast.ObjectTerm(
		pair{keyUpstream, text(c.Upstream)}, pair{keyMethod, text(c.Method)},
		pair{keyHolds, boolean(c.Holds)}, pair{keyWhy, text(c.Why)})
}

func (b *Bulk) term() *ast.Term {
	return ast.ObjectTerm(pair{keyFamily, text(b.Family)}, pair{keyRecipients, number(b.Recipients)})
}

func (p *Points) term() *ast.Term {
	return ast.ObjectTerm(pair{keyName, text(p.Name)}, pair{keyPoints, number(p.Points)}, pair{keyDetail, text(p.Detail)})
}
