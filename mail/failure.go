package mail

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Scope says whose fault a failure is, and so what may be tried next.
type Scope uint8

// The scopes. OfUs is what an error of unknown kind gets.
const (
	OfUs          Scope = iota // our bug, disk or policy engine
	OfRecipient                // this mailbox
	OfMessage                  // this message, whoever it goes to
	OfRoute                    // the way out: its credential, its quota
	OfDestination              // the receiving site
)

var scopeNames = [...]string{"us", "recipient", "message", "route", "destination"}

func (s Scope) String() string {
	if int(s) < len(scopeNames) {
		return scopeNames[s]
	}
	return "scope " + strconv.Itoa(int(s))
}

// MarshalText is String, for JSON.
func (s Scope) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *Scope) UnmarshalText(b []byte) error {
	for i, n := range scopeNames {
		if n == string(b) {
			*s = Scope(i)
			return nil
		}
	}
	return fmt.Errorf("scope %q is not known", b)
}

// Reason names the cause of a failure in one word that code and people share.
type Reason string

// The reasons.
const (
	ReasonInternal       Reason = "internal"         // our own trouble
	ReasonNoMailbox      Reason = "no-mailbox"       // the address does not exist
	ReasonMailboxFull    Reason = "mailbox-full"     // over quota
	ReasonNoDomain       Reason = "no-domain"        // NXDOMAIN, null MX
	ReasonTooLarge       Reason = "too-large"        // over a size limit
	ReasonContent        Reason = "content"          // refused for what it says
	ReasonCannotCarry    Reason = "cannot-carry"     // the hop lacks SMTPUTF8, REQUIRETLS, 8BITMIME …
	ReasonAuth           Reason = "auth"             // credential refused, consent revoked
	ReasonSenderRefused  Reason = "sender-refused"   // the account may not send as this From
	ReasonRate           Reason = "rate"             // quota, throttling, greylisting, reputation
	ReasonBlocked        Reason = "blocked"          // blocked for reputation
	ReasonTLS            Reason = "tls"              // no TLS where it is demanded
	ReasonUnreachable    Reason = "unreachable"      // timeout, refused connection
	ReasonDNS            Reason = "dns"              // look-up failed
	ReasonProtocol       Reason = "protocol"         // the peer broke SMTP
	ReasonUnresolved     Reason = "unresolved"       // no answer to the final dot
	ReasonRejected       Reason = "rejected"         // refused, and no more is known
	ReasonPolicy         Reason = "policy"           // the admin's policy said no
	ReasonUnauthentic    Reason = "not-authentic"    // no method holds for this From
	ReasonExpired        Reason = "expired"          // the message's life ended
	ReasonSuppressed     Reason = "suppressed"       // on the tenant's suppression list
	ReasonLoop           Reason = "loop"             // the message comes round again
	ReasonTemporary      Reason = "temporary"        // a 4xx, and no more is known
	ReasonForbiddenHost  Reason = "forbidden-host"   // the egress guard said no
	ReasonUpstreamAbsent Reason = "upstream-missing" // the route names what is not there
)

// Stage is how far an attempt had come when it failed; failover depends on it.
type Stage uint8

// The stages, in the order of an attempt.
const (
	StagePrepare Stage = iota // before anything was sent
	StageConnect              // no session with any host could be had
	StageSession              // a session was had, the answer is known
	StageFinal                // the final dot was sent and its answer never came
)

// Enhanced is an enhanced status code (RFC 3463).
type Enhanced [3]int

func (e Enhanced) String() string {
	return strconv.Itoa(e[0]) + "." + strconv.Itoa(e[1]) + "." + strconv.Itoa(e[2])
}

// IsZero reports whether no enhanced code is known.
func (e Enhanced) IsZero() bool { return e == Enhanced{} }

// ParseEnhanced reads a code such as "5.7.1"; ok is false for anything else.
func ParseEnhanced(s string) (e Enhanced, ok bool) {
	part := strings.Split(s, ".")
	if len(part) != 3 || len(part[0]) != 1 || !strings.Contains("245", part[0]) {
		return e, false
	}
	for i, p := range part {
		n, err := strconv.Atoi(p)
		if err != nil || n > 999 || len(p) > 3 || p[0] < '0' || p[0] > '9' {
			return Enhanced{}, false
		}
		e[i] = n
	}
	return e, true
}

// MarshalText is String; no code gives empty text.
func (e Enhanced) MarshalText() ([]byte, error) {
	if e.IsZero() {
		return nil, nil
	}
	return []byte(e.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (e *Enhanced) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*e = Enhanced{}
		return nil
	}
	v, ok := ParseEnhanced(string(b))
	if !ok {
		return fmt.Errorf("enhanced status code %q: want class.subject.detail", b)
	}
	*e = v
	return nil
}

// Failure is the only error that carries a verdict: what to tell a client or a
// sender, whose fault it is, and what may be tried next. Text is one sentence
// that a person can act on. Err, for the log only, is never shown.
type Failure struct {
	Code     int      `json:"code" cbor:"1,keyasint"`     // SMTP reply code, 4xx or 5xx
	Enhanced Enhanced `json:"enhanced" cbor:"2,keyasint"` // same class as Code
	Text     string   `json:"text" cbor:"3,keyasint"`
	Scope    Scope    `json:"scope" cbor:"4,keyasint"`
	Reason   Reason   `json:"reason" cbor:"5,keyasint"`
	Stage    Stage    `json:"-" cbor:"6,keyasint,omitempty"`
	Remote   string   `json:"remote,omitempty" cbor:"7,keyasint,omitempty"` // host that answered
	Reply    string   `json:"reply,omitempty" cbor:"8,keyasint,omitempty"`  // its reply, verbatim, lines joined by \n
	// RetryAfter is the wait that the peer asked for; zero when it named none.
	RetryAfter time.Duration `json:"-" cbor:"9,keyasint,omitempty"`
	Err        error         `json:"-" cbor:"-"`
}

// Fail makes a Failure of ours; its enhanced code is class.subject.detail.
func Fail(code int, enhanced Enhanced, scope Scope, reason Reason, format string, args ...any) *Failure {
	err := fmt.Errorf(format, args...)
	return &Failure{Code: code, Enhanced: enhanced, Text: err.Error(), Scope: scope, Reason: reason, Err: errors.Unwrap(err)}
}

func (f *Failure) Error() string {
	s := strconv.Itoa(f.Code) + " " + f.Enhanced.String() + " " + f.Text
	if f.Err != nil && !strings.Contains(s, f.Err.Error()) {
		s += ": " + f.Err.Error()
	}
	return s
}

// Unwrap gives the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Temporary reports whether trying again can help (a 4xx).
func (f *Failure) Temporary() bool { return f.Code < 500 }

// AsFailure finds the Failure in err. Any other error is our own temporary
// trouble, 451 4.3.0, whose cause is kept for the log and not shown. A nil err
// gives nil.
func AsFailure(err error) *Failure {
	if err == nil {
		return nil
	}
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	return &Failure{Code: 451, Enhanced: Enhanced{4, 3, 0}, Scope: OfUs, Reason: ReasonInternal, Err: err,
		Text: "temporary trouble on our side; try again in a few minutes"}
}
