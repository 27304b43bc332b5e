package policy

import (
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"

	"behalf/mail"
)

// SenderInput is what the sender stage sees, at MAIL. Session, Tenant,
// Credential and Usage are pointers because they are the same for many
// questions: what Rego sees of the first three is built once and kept in them,
// so they must not change after first use.
type SenderInput struct {
	// Time is now in nanoseconds since 1970, as Rego's time functions count; the
	// engine fills in a zero.
	Time       int64       `json:"time" doc:"now, in nanoseconds since 1970, for Rego's time functions"`
	Session    *Session    `json:"session" doc:"the client's connection"`
	Tenant     *Tenant     `json:"tenant" doc:"whose message it is"`
	Credential *Credential `json:"credential" doc:"what the client authenticated with"`
	Stream     string      `json:"stream" doc:"transactional, broadcast, or the tenant's own"`
	Usage      *Usage      `json:"usage" doc:"what the tenant sent of late"`
	Envelope   Envelope    `json:"envelope" doc:"what MAIL FROM said"`
}

// RecipientInput is what the recipient stage sees, at each RCPT.
type RecipientInput struct {
	SenderInput
	Recipient Recipient `json:"recipient" doc:"the recipient asked about"`
}

// MessageInput is what the message stage sees, after DATA.
type MessageInput struct {
	SenderInput
	Identity   Identity    `json:"identity" doc:"the tenant's identity that the header From falls under"`
	Message    Message     `json:"message" doc:"the message itself"`
	Candidates []Candidate `json:"candidates" doc:"the ways out with their methods, in the order they would be tried"`
	// Authentication is what receivers are expected to find.
	Authentication Authentication `json:"authentication" doc:"what receivers are expected to find, by the way that would be tried first"`
	Bulk           []Bulk         `json:"bulk" doc:"for each big receiver among the recipients, how much it got of late from this From domain"`
	Unusual        Unusual        `json:"unusual" doc:"how far this message is from what the tenant and credential are used to send"`
}

// Session is the client's connection.
type Session struct {
	Addr string    `json:"addr" doc:"IP address of the client"`
	Helo string    `json:"helo" doc:"what it called itself"`
	TLS  string    `json:"tls" doc:"version and cipher; empty without TLS"`
	Door mail.Door `json:"door" doc:"smtp, http or system"`

	cached atomic.Pointer[ast.Term]
}

// Tenant is whose message it is.
type Tenant struct {
	ID              mail.TenantID     `json:"id" doc:"the tenant's number, never used again"`
	Name            string            `json:"name" doc:"the tenant's name"`
	Labels          map[string]string `json:"labels" doc:"whatever the administrator attached"`
	Methods         []mail.Method     `json:"methods" doc:"methods the tenant allows, in order"`
	AllowFromChange bool              `json:"allow_from_change" doc:"whether a fallback may send as name"`
	Suspended       *Suspension       `json:"suspended,omitempty" doc:"there only while the tenant is suspended"`

	cached atomic.Pointer[ast.Term]
}

// Suspension is why a tenant is suspended and until when.
type Suspension struct {
	Reason string `json:"reason" doc:"why, for people"`
	Until  string `json:"until" doc:"RFC 3339 time at which it ends; empty: when it is lifted"`
}

// Credential is what the client authenticated with.
type Credential struct {
	Username string `json:"username" doc:"e.g. acme/app"`
	Scope    string `json:"scope" doc:"tenant or platform"`

	cached atomic.Pointer[ast.Term]
}

// Usage is what passed lately, in sliding windows. The first two fields count
// for the whole tenant.
type Usage struct {
	Hour       Window          `json:"1h" doc:"the tenant's last hour"`
	Day        Window          `json:"24h" doc:"the tenant's last 24 hours"`
	Credential CredentialUsage `json:"credential" doc:"the same for the credential alone"`
}

// CredentialUsage is the usage of one credential.
type CredentialUsage struct {
	Hour Window `json:"1h" doc:"the last hour"`
	Day  Window `json:"24h" doc:"the last 24 hours"`
}

// Window counts what passed in one window.
type Window struct {
	Messages      int64 `json:"messages" doc:"messages accepted"`
	Recipients    int64 `json:"recipients" doc:"recipients accepted"`
	NewRecipients int64 `json:"new_recipients" doc:"recipients the tenant had not mailed in 90 days"`
	Bounces       int64 `json:"bounces" doc:"hard bounces that came back"`
	Complaints    int64 `json:"complaints" doc:"complaints that came back"`
}

// Envelope is what MAIL FROM said.
type Envelope struct {
	From       string `json:"from" doc:"address in MAIL FROM; empty for the null path"`
	FromDomain string `json:"from_domain" doc:"its domain"`
	Size       int64  `json:"size" doc:"octets the client announced; 0: none announced"`
	Recipients int    `json:"recipients" doc:"recipients taken so far in this transaction"`
	// NewRecipients is part of Recipients.
	NewRecipients int  `json:"new_recipients" doc:"those of them that the tenant had not mailed in 90 days"`
	UTF8          bool `json:"utf8" doc:"SMTPUTF8 was asked for"`
	EightBit      bool `json:"eight_bit" doc:"BODY=8BITMIME or BINARYMIME"`
	RequireTLS    bool `json:"require_tls" doc:"REQUIRETLS was asked for"`
}

// Recipient is one RCPT.
type Recipient struct {
	Address    string `json:"address" doc:"the address"`
	Domain     string `json:"domain" doc:"its domain"`
	Site       string `json:"site" doc:"the receiver its domain belongs to, or the organisational domain"`
	Family     string `json:"family" doc:"the big receiver whose mailboxes its domain has: google, microsoft, yahoo, apple; empty: another"`
	FirstTime  bool   `json:"first_time" doc:"the tenant has not mailed it in 90 days"`
	Suppressed bool   `json:"suppressed" doc:"it is on the tenant's suppression list"`
}

// Identity is the tenant's identity that the header From falls under.
type Identity struct {
	Address  string        `json:"address" doc:"the identity, an address or *@domain; empty: the tenant has none for this From"`
	Verified bool          `json:"verified" doc:"it is verified"`
	Foreign  bool          `json:"foreign" doc:"the address or its domain is verified by another tenant"`
	Methods  []mail.Method `json:"methods" doc:"methods that hold for it somewhere on the route"`
}

// Message is the message itself.
type Message struct {
	Headers     [][2]string  `json:"headers" doc:"header fields as pairs of name and unfolded value, in order"`
	From        string       `json:"from" doc:"address in From"`
	FromDomain  string       `json:"from_domain" doc:"its domain"`
	FromName    string       `json:"from_name" doc:"display name in From, decoded"`
	Subject     string       `json:"subject" doc:"decoded"`
	MessageID   string       `json:"message_id" doc:"with its brackets; empty when the client gave none"`
	Size        int64        `json:"size" doc:"octets"`
	Tag         string       `json:"tag" doc:"hint of the client"`
	OneClick    bool         `json:"one_click" doc:"it will carry one-click unsubscription (RFC 8058), the client's or ours"`
	Attachments []Attachment `json:"attachments" doc:"parts that carry a file name or are attachments"`
	URLHosts    []string     `json:"url_hosts" doc:"hosts of the links in the text, each once"`
}

// Attachment is one attached part.
type Attachment struct {
	Filename    string `json:"filename" doc:"decoded, without a path; its last 255 octets"`
	ContentType string `json:"content_type" doc:"lower case, without parameters; its last 255 octets"`
	Size        int64  `json:"size" doc:"octets as they stand in the message"`
}

// Candidate is one way out with one method, and whether the method holds there.
type Candidate struct {
	Upstream mail.UpstreamID `json:"upstream" doc:"mx, platform, mailbox or connection:<name>"`
	Method   mail.Method     `json:"method" doc:"domain, connection, address or name"`
	Holds    bool            `json:"holds" doc:"the message can be made authentic so"`
	Why      string          `json:"why" doc:"the reason for or against"`
}

// Authentication is what receivers are expected to find, by the way that would
// be tried first.
type Authentication struct {
	Method      mail.Method `json:"method" doc:"method of that way; empty: none holds"`
	FromDomain  string      `json:"from_domain" doc:"organisational domain of the From as it will leave"`
	SPF         bool        `json:"spf" doc:"SPF will pass"`
	DKIM        bool        `json:"dkim" doc:"a DKIM signature aligned with From will pass"`
	DMARCPolicy string      `json:"dmarc_policy" doc:"DMARC policy of that From: none, quarantine, reject; empty: no record; unknown: it could not be looked up"`
	ReverseDNS  bool        `json:"reverse_dns" doc:"our name and address confirm each other in the DNS; true where somebody else's server talks to the receiver"`
}

// Bulk is how much one big receiver got of late.
type Bulk struct {
	Family     string `json:"family" doc:"as recipient.family"`
	Recipients int64  `json:"recipients" doc:"its recipients in the last 24 hours of mail from authentication.from_domain, those of this message included"`
}

// Unusual is how far a message is from what is usual for who sends it.
type Unusual struct {
	Score   int64    `json:"score" doc:"sum of the points, 0 to 100"`
	Reasons []Points `json:"reasons" doc:"what gave points"`
	// NewRecipients are those of which the score is told, whatever it is.
	NewRecipients int64 `json:"new_recipients" doc:"new recipients of the last 24 hours that were not held, with those of this message and of others being decided on: of this credential, or of all credentials of the tenant or all tenants of the credential if these gave the score"`
	// Held counts since nobody has yet said what it was.
	Held int64 `json:"held" doc:"messages of this credential that are held as unusual"`
	// With others that are likely to be, and being decided on.
	HeldOctets       int64 `json:"held_octets" doc:"octets of the messages of this credential that are held as unusual, without this one"`
	TenantHeldOctets int64 `json:"tenant_held_octets" doc:"octets of the messages of the tenant that are held as unusual, without this one"`
}

// Points are a part of a score.
type Points struct {
	Name   string `json:"name" doc:"volume, new_recipients, hour, content or bounces"`
	Points int64  `json:"points" doc:"how many"`
	Detail string `json:"detail" doc:"what was seen and what is usual"`
}
