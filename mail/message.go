package mail

import "time"

// Door is how a message came in.
type Door string

// The doors.
const (
	DoorSMTP   Door = "smtp"
	DoorHTTP   Door = "http"
	DoorSystem Door = "system" // made here: bounces, notices
)

// The streams that every tenant has; it may name its own beside them.
const (
	StreamTransactional = "transactional"
	StreamBroadcast     = "broadcast"
)

// Method is how a message is made authentic.
type Method string

// The methods, best first.
const (
	MethodDomain     Method = "domain"     // DKIM and return path of the tenant's domain
	MethodConnection Method = "connection" // the provider of the tenant's account signs
	MethodAddress    Method = "address"    // From of a verified address, signed by the platform
	MethodName       Method = "name"       // the tenant's name on the platform's domain
)

// UpstreamID names a way out as seen from one tenant: "mx", "platform",
// "mailbox", or "connection:" and the connection's name.
type UpstreamID string

// The upstreams that every tenant has.
const (
	UpstreamMX       UpstreamID = "mx"
	UpstreamPlatform UpstreamID = "platform"
	UpstreamMailbox  UpstreamID = "mailbox"
)

// ConnectionPrefix begins the UpstreamID of a connection.
const ConnectionPrefix = "connection:"

// Ret is the RET parameter of MAIL FROM (RFC 3461): how much a DSN returns.
type Ret string

// The values of RET.
const (
	RetFull    Ret = "FULL"
	RetHeaders Ret = "HDRS"
)

// Envelope is what MAIL FROM said.
type Envelope struct {
	From       Address `json:"from" cbor:"1,keyasint"` // null for auto-replies and bounces
	EnvID      string  `json:"envid,omitempty" cbor:"2,keyasint,omitempty"`
	Ret        Ret     `json:"ret,omitempty" cbor:"3,keyasint,omitempty"`
	UTF8       bool    `json:"utf8,omitempty" cbor:"4,keyasint,omitempty"`        // SMTPUTF8 was asked for
	EightBit   bool    `json:"eight_bit,omitempty" cbor:"5,keyasint,omitempty"`   // BODY=8BITMIME or BINARYMIME
	Binary     bool    `json:"binary,omitempty" cbor:"6,keyasint,omitempty"`      // BODY=BINARYMIME
	RequireTLS bool    `json:"require_tls,omitempty" cbor:"7,keyasint,omitempty"` // RFC 8689
}

// Wish is one way that a message may go: an upstream and the methods allowed
// there, best first. It becomes a [Hop] at each attempt.
type Wish struct {
	Upstream UpstreamID `json:"upstream" cbor:"1,keyasint"`
	Methods  []Method   `json:"methods" cbor:"2,keyasint"`
}

// Message is what was accepted: immutable facts beside the exact bytes the
// client gave, which the spool keeps apart.
type Message struct {
	ID         ID       `json:"id" cbor:"1,keyasint"`
	Tenant     TenantID `json:"-" cbor:"2,keyasint"`
	Credential string   `json:"credential,omitempty" cbor:"3,keyasint,omitempty"` // username, e.g. acme/app
	Door       Door     `json:"door" cbor:"4,keyasint"`
	Stream     string   `json:"stream" cbor:"5,keyasint"`
	Envelope   Envelope `json:"envelope" cbor:"6,keyasint"`
	From       Address  `json:"from" cbor:"7,keyasint"` // header From
	FromName   string   `json:"from_name,omitempty" cbor:"8,keyasint,omitempty"`
	Subject    string   `json:"subject,omitempty" cbor:"9,keyasint,omitempty"` // decoded, cut at 200 characters
	MessageID  string   `json:"message_id" cbor:"10,keyasint"`                 // with its brackets; ours when the client gave none
	Size       int64    `json:"size" cbor:"11,keyasint"`                       // octets as submitted
	HeaderSize int      `json:"-" cbor:"12,keyasint"`                          // octets up to and with the empty line

	// Front is what is put before the client's own header at every attempt:
	// Received, and Date and Message-ID where the client gave none.
	Front []byte `json:"-" cbor:"13,keyasint"`
	// Edits are changes of header fields that do not depend on the hop:
	// hints, Bcc and other fields to drop, fields that policy adds.
	Edits []Edit `json:"-" cbor:"14,keyasint,omitempty"`
	// BodyHash is the SHA-256 of the body, relaxed canonicalisation (RFC 6376,
	// section 3.4.4), made at accept; all zero if no signature was expected.
	BodyHash [32]byte `json:"-" cbor:"15,keyasint"`
	Body     BodyForm `json:"-" cbor:"16,keyasint"`

	Tag      string            `json:"tag,omitempty" cbor:"17,keyasint,omitempty"`
	Tags     []string          `json:"tags,omitempty" cbor:"18,keyasint,omitempty"` // of policies
	Metadata map[string]string `json:"metadata,omitempty" cbor:"19,keyasint,omitempty"`

	Accepted  time.Time `json:"accepted" cbor:"20,keyasint"`
	NotBefore time.Time `json:"not_before,omitzero" cbor:"21,keyasint,omitempty"` // send_at, or pace
	Expires   time.Time `json:"expires" cbor:"22,keyasint"`
	Wishes    []Wish    `json:"wishes" cbor:"23,keyasint"`
	// FromChange is what the tenant's allow_from_change said at accept.
	FromChange bool   `json:"-" cbor:"24,keyasint,omitempty"`
	ReplyTo    string `json:"-" cbor:"25,keyasint,omitempty"` // the client's own Reply-To, raw value
	Verp       bool   `json:"-" cbor:"26,keyasint,omitempty"` // one return path a recipient
	// Unsubscribe is set where we owe the List-Unsubscribe pair: broadcast
	// mail that came without one.
	Unsubscribe bool `json:"-" cbor:"27,keyasint,omitempty"`
}

// Hashed reports whether BodyHash is there.
func (m *Message) Hashed() bool { return m.BodyHash != [32]byte{} }

// BodyForm says what a hop must be able to do to carry the bytes as they are.
type BodyForm struct {
	EightBit bool `cbor:"1,keyasint,omitempty"` // octets over 127 below the header
	UTF8     bool `cbor:"2,keyasint,omitempty"` // octets over 127 in the header
	Long     bool `cbor:"3,keyasint,omitempty"` // a line over 998 octets
	Binary   bool `cbor:"4,keyasint,omitempty"` // NUL, bare CR or bare LF, possible with BINARYMIME only
	Sealed   bool `cbor:"5,keyasint,omitempty"` // multipart/signed or encrypted: must not be re-encoded
	// Undotted is set where it is known that no line below the header begins with a
	// dot, so that none need be doubled.
	Undotted bool `cbor:"6,keyasint,omitempty"`
}

// EditOp is what an [Edit] does.
type EditOp uint8

// The edits.
const (
	EditRemove EditOp = iota + 1 // drop every field of that name
	EditAdd                      // add a field at the top of the client's header
	EditSet                      // replace the first field of that name, drop the others, add if none
	EditPrefix                   // put Value before the value of the first field of that name
)

// Edit changes the header fields named Name (compared without case). Value is
// the field's body without the line end; it may be folded.
type Edit struct {
	Op    EditOp `json:"op" cbor:"1,keyasint"`
	Name  string `json:"name" cbor:"2,keyasint"`
	Value string `json:"value,omitempty" cbor:"3,keyasint,omitempty"`
}

// Hop is one way out with everything decided: computed from a [Wish] at each
// attempt, never stored.
type Hop struct {
	Upstream   UpstreamID
	Method     Method
	ReturnPath ReturnPath
	Edits      []Edit      // From, Sender, Reply-To, Feedback-ID, List-Unsubscribe …
	Sign       []Selector  // keys to sign with, in the order the fields shall stand
	Front      []HopHeader // fields added in front, below the signatures
	// Single is set where the fields differ from recipient to recipient, so
	// that each wants a rendering of its own.
	Single bool
}

// HopHeader is one field that a hop adds.
type HopHeader struct{ Name, Value string }

// Selector names a DKIM key.
type Selector struct {
	Tenant TenantID // 0 for the platform's own keys
	Domain string   // d=
	Name   string   // s=
}

// ReturnPath says which envelope sender a hop uses.
type ReturnPath struct {
	// Host carries our token in the local part; empty when Fixed is used.
	Host string
	// Fixed is the account's own address on hops that demand it. Both empty is
	// the null path.
	Fixed Address
	// PerMessage uses one token for all recipients instead of one for each.
	PerMessage bool
}
