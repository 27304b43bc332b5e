package relay

import (
	"context"
	"io"
	"sync/atomic"

	"behalf/mail"
	"behalf/tenant"
)

// Login is what a client showed to authenticate itself: a SASL exchange that
// ended, or the Authorization of an HTTP request.
type Login struct {
	// Mechanism is the SASL name in upper case, such as PLAIN or OAUTHBEARER.
	Mechanism string
	// Authzid names on whose behalf the client wants to act (RFC 4616); a
	// platform credential names its tenant by it. Empty: nobody in particular.
	Authzid string
	// Username is empty for bearer mechanisms whose Secret alone is the key;
	// else what the client wrote, "platform/app+acme" included.
	Username string
	// Secret is the password or API key. It is never logged.
	Secret string
}

// ScramVerifier is what is kept of a secret for SCRAM-SHA-256 (RFC 5802,
// RFC 7677): enough to check a proof, not enough to make one.
type ScramVerifier struct {
	Salt       []byte
	Iterations int
	StoredKey  []byte
	ServerKey  []byte
}

// Principal is who a door's client proved to be and what it may do. A door
// keeps it for the session and gives it back to Intake; it looks at nothing
// but the Username.
type Principal struct {
	Username string // for logs and metrics, e.g. acme/app

	credential *tenant.Credential
	view       *tenant.View          // nil while a platform credential has named nobody
	shown      atomic.Pointer[shown] // to policies, last time
}

// Transaction is one message on its way in. A door calls Recipient for each
// RCPT, then writes the message, then calls Commit or Abort exactly once.
// Its methods are not called concurrently. Errors are a [mail.Failure], or
// count as our own temporary trouble.
type Transaction interface {
	// Recipient adds a recipient, of which Address, ORcpt and Notify are set.
	// An error refuses this recipient only.
	Recipient(ctx context.Context, r mail.Recipient) error
	// Write takes the bytes of the message with CRLF line ends and without
	// dot-stuffing. It does not keep p. After an error nothing more is written
	// and the transaction ends with Abort.
	io.Writer
	// Commit makes the message durable. Only after nil may a door say 250.
	Commit(ctx context.Context) (Receipt, error)
	// Abort drops everything and gives back what was reserved.
	Abort()
}
