package dsn

import (
	"io"
	"time"

	"behalf/mail"
)

type Action string

const (
	Failed    Action = "failed"
	Delayed   Action = "delayed"
	Delivered Action = "delivered"
	Relayed   Action = "relayed"
	Expanded  Action = "expanded"
)

type Recipient struct {
	Address        mail.Address
	ORcpt          string // "type;address" as given
	Action         Action
	Failure        *mail.Failure // failed, delayed
	Status         mail.Enhanced // zero: of Failure, or 2.0.0
	Remote         string        // host that answered
	Diagnostic     string        // its reply, verbatim
	Advice         string        // what to do; "" is Explain(Failure)
	LastAttempt    time.Time
	WillRetryUntil time.Time
}

type Report struct {
	From         mail.Address // MAILER-DAEMON@…
	FromName     string
	To           mail.Address
	MessageID    string
	Date         time.Time
	ReportingMTA string
	EnvID        string
	Arrival      time.Time
	Subject      string // of the original, decoded
	OriginalID   string // Message-ID of the original
	OriginalFrom mail.Address
	Recipients   []Recipient
	Header       []byte    // of the original as submitted
	Original     io.Reader // the whole original where RET=FULL and it is a failure; else nil
	UTF8         bool      // the original needs SMTPUTF8
	Boundary     string    // seed
}

func (r *Report) WriteTo(w io.Writer) (int64, error) { return 0, nil }
func Explain(f *mail.Failure) string                 { return "" }
