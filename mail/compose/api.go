package compose

import (
	"io"
	"time"

	"behalf/mail"
)

type Mailbox struct {
	Name    string
	Address mail.Address
}

type Field struct{ Name, Value string }

type Attachment struct {
	Filename    string
	ContentType string
	Content     io.Reader
	ContentID   string // without brackets
	Inline      bool
}

type Message struct {
	From        Mailbox
	Sender      *Mailbox
	To, Cc, Bcc []Mailbox // Bcc is for the envelope only, never written
	ReplyTo     []Mailbox
	Subject     string
	Text, HTML  string
	Headers     []Field
	Attachments []Attachment
	Date        time.Time
	MessageID   string // with brackets; "": none is written
	Boundary    string // seed of the boundaries; "": random
}

func (m *Message) Check() error                       { return nil } // *mail.Failure naming the bad part
func (m *Message) WriteTo(w io.Writer) (int64, error) { return 0, nil }
func (m *Message) Recipients() []mail.Address         { return nil } // To, Cc, Bcc once each
