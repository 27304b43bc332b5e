package relay

import (
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
}

// Receipt is what a door tells the client of an accepted message.
type Receipt struct {
	ID        mail.ID
	MessageID string
	Repeated  bool // an earlier submission with this idempotency key; nothing new was accepted
	Warnings  []string
}
