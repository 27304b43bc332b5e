package relay

import (
	"io"
	"net/netip"
	"time"

	"behalf/mail"
)

// Client is who is connected at a door.
type Client struct {
	Addr netip.AddrPort
	Helo string // SMTP only
	TLS  string // e.g. "TLS 1.3 TLS_AES_128_GCM_SHA256"; empty without TLS
	Door mail.Door
}

// Hints are what a client says about a message besides its envelope: in
// Behalf-… header fields, HTTP fields, or JSON.
type Hints struct {
	Tenant         string
	Stream         string
	Tag            string
	Metadata       map[string]string
	SendAt         time.Time
	IdempotencyKey string
	Route          []mail.UpstreamID
	Method         mail.Method

	request [32]byte // hash of an HTTP request, for its idempotency key
}

// Receipt is what a door tells the client of an accepted message.
type Receipt struct {
	ID        mail.ID
	MessageID string
	Repeated  bool // an earlier submission with this idempotency key; nothing new was accepted
	Warnings  []string
	Limits    []LimitStanding // the most pressing limits it fell under, the binding one first
	// Refused are recipients that were refused one by one; those not named
	// were accepted. SMTP tells of them itself, in answer to RCPT.
	Refused []Refusal

	taken map[string]bool // keys of the recipients of a repeated message; nil: it is purged
}

// Refusal is one recipient that was not accepted, and why.
type Refusal struct {
	Address mail.Address  `json:"address"`
	Failure *mail.Failure `json:"failure"`
}

// Submission is a whole message at once, as HTTP brings it.
type Submission struct {
	Envelope   mail.Envelope
	Recipients []mail.Recipient // Address, ORcpt and Notify set
	Hints      Hints
	// Hash is asked after Write what tells this request from another with the
	// same idempotency key. Without it envelope and recipients do.
	Hash func() [32]byte
	// Write writes the message with CRLF line ends.
	Write func(w io.Writer) error
}
