package policy

import (
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
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

// view is the input as a plan sees it.
func view(in input, f fields) *ast.Term {
	return in.term(f)
}

func (in *SenderInput) term(f fields) *ast.Term {
	var buf [7]pair
	return ast.ObjectTerm(in.append(buf[:0], f)...)
}

func (in *RecipientInput) term(f fields) *ast.Term {
	var buf [8]pair
	o := in.append(buf[:0], f)
	if f&fRecipient != 0 {
		o = append(o, pair{keyRecipient, in.Recipient.term(f)})
	}
	return ast.ObjectTerm(o...)
}

func (in *MessageInput) term(f fields) *ast.Term {
	var buf [13]pair
	o := in.append(buf[:0], f)
	if f&fIdentity != 0 {
		o = append(o, pair{keyIdentity, in.Identity.term()})
	}
	if f&fMessage != 0 {
		o = append(o, pair{keyMessage, in.Message.term(f)})
	}
	if f&fCandidates != 0 {
		list := make([]*ast.Term, len(in.Candidates))
		for i := range in.Candidates {
			list[i] = in.Candidates[i].term()
		}
		o = append(o, pair{keyCandidates, ast.ArrayTerm(list...)})
	}
	if f&fAuthentication != 0 {
		o = append(o, pair{keyAuthentication, in.Authentication.term()})
	}
	if f&fBulk != 0 {
		list := make([]*ast.Term, len(in.Bulk))
		for i, b := range in.Bulk {
			list[i] = ast.ObjectTerm(pair{keyFamily, text(b.Family)}, pair{keyRecipients, number(b.Recipients)})
		}
		o = append(o, pair{keyBulk, ast.ArrayTerm(list...)})
	}
	if f&fUnusual != 0 {
		o = append(o, pair{keyUnusual, in.Unusual.term()})
	}
	return ast.ObjectTerm(o...)
}

// append adds what all stages have in common. Nil pointers count as empty.
func (in *SenderInput) append(o []pair, f fields) []pair {
	if f&fTime != 0 {
		o = append(o, pair{keyTime, number(in.Time)})
	}
	if f&fSession != 0 {
		o = append(o, pair{keySession, orEmpty(in.Session).term()})
	}
	if f&fTenant != 0 {
		o = append(o, pair{keyTenant, orEmpty(in.Tenant).term()})
	}
	if f&fCredential != 0 {
		o = append(o, pair{keyCredential, orEmpty(in.Credential).term()})
	}
	if f&fStream != 0 {
		o = append(o, pair{keyStream, text(in.Stream)})
	}
	if f&fUsage != 0 {
		o = append(o, pair{keyUsage, orEmpty(in.Usage).term(f)})
	}
	if f&fEnvelope != 0 {
		o = append(o, pair{keyEnvelope, in.Envelope.term()})
	}
	return o
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

func (u *Usage) term(f fields) *ast.Term {
	o := []pair{pair{keyHour, u.Hour.term()}, pair{keyDay, u.Day.term()}}
	if f&fUsageCredential != 0 {
		o = append(o, pair{keyCredential, ast.ObjectTerm(
			pair{keyHour, u.Credential.Hour.term()}, pair{keyDay, u.Credential.Day.term()})})
	}
	return ast.ObjectTerm(o...)
}

func (w *Window) term() *ast.Term {
	return ast.ObjectTerm(
		pair{keyMessages, number(w.Messages)}, pair{keyRecipients, number(w.Recipients)},
		pair{keyNewRecipients, number(w.NewRecipients)}, pair{keyBounces, number(w.Bounces)},
		pair{keyComplaints, number(w.Complaints)})
}

func (e *Envelope) term() *ast.Term {
	return ast.ObjectTerm(
		pair{keyFrom, text(e.From)}, pair{keyFromDomain, text(e.FromDomain)},
		pair{keySize, number(e.Size)}, pair{keyRecipients, number(int64(e.Recipients))},
		pair{keyNewRecipients, number(int64(e.NewRecipients))},
		pair{keyUTF8, boolean(e.UTF8)}, pair{keyEightBit, boolean(e.EightBit)},
		pair{keyRequireTLS, boolean(e.RequireTLS)})
}

func (r *Recipient) term(f fields) *ast.Term {
	o := []pair{pair{keyAddress, text(r.Address)}, pair{keyDomain, text(r.Domain)}, pair{keySite, text(r.Site)}, pair{keyFamily, text(r.Family)}}
	if f&fFirstTime != 0 {
		o = append(o, pair{keyFirstTime, boolean(r.FirstTime)})
	}
	if f&fSuppressed != 0 {
		o = append(o, pair{keySuppressed, boolean(r.Suppressed)})
	}
	return ast.ObjectTerm(o...)
}

func (i *Identity) term() *ast.Term {
	return ast.ObjectTerm(
		pair{keyAddress, text(i.Address)}, pair{keyVerified, boolean(i.Verified)},
		pair{keyForeign, boolean(i.Foreign)}, pair{keyMethods, texts(i.Methods)})
}

func (m *Message) term(f fields) *ast.Term {
	o := append(make([]pair, 0, 11),
		pair{keyFrom, text(m.From)}, pair{keyFromDomain, text(m.FromDomain)}, pair{keyFromName, text(m.FromName)},
		pair{keySubject, text(m.Subject)}, pair{keyMessageID, text(m.MessageID)},
		pair{keySize, number(m.Size)}, pair{keyTag, text(m.Tag)},
		pair{keyOneClick, boolean(m.OneClick)})
	if f&fHeaders != 0 {
		list := make([]*ast.Term, len(m.Headers))
		for i, h := range m.Headers {
			list[i] = ast.ArrayTerm(text(h[0]), text(h[1]))
		}
		o = append(o, pair{keyHeaders, ast.ArrayTerm(list...)})
	}
	if f&fAttachments != 0 {
		list := make([]*ast.Term, len(m.Attachments))
		for i, a := range m.Attachments {
			list[i] = ast.ObjectTerm(pair{keyFilename, text(a.Filename)},
				pair{keyContentType, text(a.ContentType)}, pair{keySize, number(a.Size)})
		}
		o = append(o, pair{keyAttachments, ast.ArrayTerm(list...)})
	}
	if f&fURLHosts != 0 {
		o = append(o, pair{keyURLHosts, texts(m.URLHosts)})
	}
	return ast.ObjectTerm(o...)
}

func (c *Candidate) term() *ast.Term {
	return ast.ObjectTerm(
		pair{keyUpstream, text(c.Upstream)}, pair{keyMethod, text(c.Method)},
		pair{keyHolds, boolean(c.Holds)}, pair{keyWhy, text(c.Why)})
}

func (a *Authentication) term() *ast.Term {
	return ast.ObjectTerm(
		pair{keyMethod, text(a.Method)}, pair{keyFromDomain, text(a.FromDomain)},
		pair{keySPF, boolean(a.SPF)}, pair{keyDKIM, boolean(a.DKIM)},
		pair{keyDMARCPolicy, text(a.DMARCPolicy)}, pair{keyReverseDNS, boolean(a.ReverseDNS)})
}

func (u *Unusual) term() *ast.Term {
	list := make([]*ast.Term, len(u.Reasons))
	for i, r := range u.Reasons {
		list[i] = ast.ObjectTerm(pair{keyName, text(r.Name)}, pair{keyPoints, number(r.Points)}, pair{keyDetail, text(r.Detail)})
	}
	return ast.ObjectTerm(pair{keyScore, number(u.Score)}, pair{keyReasons, ast.ArrayTerm(list...)}, pair{keyHeld, number(u.Held)})
}
