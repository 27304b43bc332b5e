package policy

import (
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"

	"behalf/mail"
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

// What all stages of a submission have in common. Nil pointers count as empty.
var ofSenderInput = members[SenderInput]{
	numberField(keyTime, fTime, func(in *SenderInput) int64 { return in.Time }),
	wholeField(keySession, fSession, func(in *SenderInput) *ast.Term { return orEmpty(in.Session).term() },
		func(in *SenderInput) sight { return sight{session: in.Session} }),
	wholeField(keyTenant, fTenant, func(in *SenderInput) *ast.Term { return orEmpty(in.Tenant).term() },
		func(in *SenderInput) sight { return sight{tenant: in.Tenant} }),
	wholeField(keyCredential, fCredential, func(in *SenderInput) *ast.Term { return orEmpty(in.Credential).term() },
		func(in *SenderInput) sight {
			c := orEmpty(in.Credential)
			return sight{text: c.Username, more: c.Scope}
		}),
	textField(keyStream, fStream, func(in *SenderInput) string { return in.Stream }),
	partField(keyUsage, fUsage, func(in *SenderInput) *Usage { return orEmpty(in.Usage) }, ofUsage),
	partField(keyEnvelope, fEnvelope, func(in *SenderInput) *Envelope { return &in.Envelope }, ofEnvelope),
}

var ofRecipientInput = append(
	inherited(ofSenderInput, func(in *RecipientInput) *SenderInput { return &in.SenderInput }),
	partField(keyRecipient, fRecipient, func(in *RecipientInput) *Recipient { return &in.Recipient }, ofRecipient),
)

var ofMessageInput = append(
	inherited(ofSenderInput, func(in *MessageInput) *SenderInput { return &in.SenderInput }),
	partField(keyIdentity, fIdentity, func(in *MessageInput) *Identity { return &in.Identity }, ofIdentity),
	partField(keyMessage, fMessage, func(in *MessageInput) *Message { return &in.Message }, ofMessage),
	listField(keyCandidates, fCandidates, func(in *MessageInput) []Candidate { return in.Candidates }, listOf((*Candidate).term)),
	partField(keyAuthentication, fAuthentication, func(in *MessageInput) *Authentication { return &in.Authentication }, ofAuthentication),
	listField(keyBulk, fBulk, func(in *MessageInput) []Bulk { return in.Bulk }, listOf((*Bulk).term)),
	partField(keyUnusual, fUnusual, func(in *MessageInput) *Unusual { return &in.Unusual }, ofUnusual),
)

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
	partField(keyHour, 0, func(u *Usage) *Window { return &u.Hour }, ofWindow),
	partField(keyDay, 0, func(u *Usage) *Window { return &u.Day }, ofWindow),
	partField(keyCredential, fUsageCredential, func(u *Usage) *CredentialUsage { return &u.Credential }, ofCredentialUsage),
}

var ofCredentialUsage = members[CredentialUsage]{
	partField(keyHour, 0, func(u *CredentialUsage) *Window { return &u.Hour }, ofWindow),
	partField(keyDay, 0, func(u *CredentialUsage) *Window { return &u.Day }, ofWindow),
}

var ofWindow = members[Window]{
	numberField(keyMessages, 0, func(w *Window) int64 { return w.Messages }),
	numberField(keyRecipients, 0, func(w *Window) int64 { return w.Recipients }),
	numberField(keyNewRecipients, 0, func(w *Window) int64 { return w.NewRecipients }),
	numberField(keyBounces, 0, func(w *Window) int64 { return w.Bounces }),
	numberField(keyComplaints, 0, func(w *Window) int64 { return w.Complaints }),
}

var ofEnvelope = members[Envelope]{
	textField(keyFrom, 0, func(e *Envelope) string { return e.From }),
	textField(keyFromDomain, 0, func(e *Envelope) string { return e.FromDomain }),
	numberField(keySize, 0, func(e *Envelope) int64 { return e.Size }),
	numberField(keyRecipients, 0, func(e *Envelope) int { return e.Recipients }),
	numberField(keyNewRecipients, 0, func(e *Envelope) int { return e.NewRecipients }),
	flagField(keyUTF8, 0, func(e *Envelope) bool { return e.UTF8 }),
	flagField(keyEightBit, 0, func(e *Envelope) bool { return e.EightBit }),
	flagField(keyRequireTLS, 0, func(e *Envelope) bool { return e.RequireTLS }),
}

var ofRecipient = members[Recipient]{
	textField(keyAddress, 0, func(r *Recipient) string { return r.Address }),
	textField(keyDomain, 0, func(r *Recipient) string { return r.Domain }),
	textField(keySite, 0, func(r *Recipient) string { return r.Site }),
	textField(keyFamily, 0, func(r *Recipient) string { return r.Family }),
	flagField(keyFirstTime, fFirstTime, func(r *Recipient) bool { return r.FirstTime }),
	flagField(keySuppressed, fSuppressed, func(r *Recipient) bool { return r.Suppressed }),
}

var ofIdentity = members[Identity]{
	textField(keyAddress, 0, func(i *Identity) string { return i.Address }),
	flagField(keyVerified, 0, func(i *Identity) bool { return i.Verified }),
	flagField(keyForeign, 0, func(i *Identity) bool { return i.Foreign }),
	listField(keyMethods, 0, func(i *Identity) []mail.Method { return i.Methods }, texts[mail.Method]),
}

var ofMessage = members[Message]{
	textField(keyFrom, 0, func(m *Message) string { return m.From }),
	textField(keyFromDomain, 0, func(m *Message) string { return m.FromDomain }),
	textField(keyFromName, 0, func(m *Message) string { return m.FromName }),
	textField(keySubject, 0, func(m *Message) string { return m.Subject }),
	textField(keyMessageID, 0, func(m *Message) string { return m.MessageID }),
	numberField(keySize, 0, func(m *Message) int64 { return m.Size }),
	textField(keyTag, 0, func(m *Message) string { return m.Tag }),
	flagField(keyOneClick, 0, func(m *Message) bool { return m.OneClick }),
	listField(keyHeaders, fHeaders, func(m *Message) [][2]string { return m.Headers }, listOf(headerTerm)),
	listField(keyAttachments, fAttachments, func(m *Message) []Attachment { return m.Attachments }, listOf((*Attachment).term)),
	listField(keyURLHosts, fURLHosts, func(m *Message) []string { return m.URLHosts }, texts[string]),
}

var ofAuthentication = members[Authentication]{
	textField(keyMethod, 0, func(a *Authentication) mail.Method { return a.Method }),
	textField(keyFromDomain, 0, func(a *Authentication) string { return a.FromDomain }),
	flagField(keySPF, 0, func(a *Authentication) bool { return a.SPF }),
	flagField(keyDKIM, 0, func(a *Authentication) bool { return a.DKIM }),
	textField(keyDMARCPolicy, 0, func(a *Authentication) string { return a.DMARCPolicy }),
	flagField(keyReverseDNS, 0, func(a *Authentication) bool { return a.ReverseDNS }),
}

var ofUnusual = members[Unusual]{
	numberField(keyScore, 0, func(u *Unusual) int64 { return u.Score }),
	numberField(keyNewRecipients, 0, func(u *Unusual) int64 { return u.NewRecipients }),
	numberField(keyHeld, 0, func(u *Unusual) int64 { return u.Held }),
	numberField(keyHeldOctets, 0, func(u *Unusual) int64 { return u.HeldOctets }),
	numberField(keyTenantHeld, 0, func(u *Unusual) int64 { return u.TenantHeldOctets }),
	listField(keyReasons, 0, func(u *Unusual) []Points { return u.Reasons }, listOf((*Points).term)),
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
