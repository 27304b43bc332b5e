package header

import (
	"time"

	"behalf/mail"
)

const (
	MaxBytes  = 128 << 10
	MaxLines  = 2000
	MaxFields = 1000
)

type Field struct {
	Name       string // as written
	Raw        string // the whole field with its line ends
	Start, End int    // its byte range in the header
}

func (f Field) Body() string  { return "" } // after the colon, as written, without the last line end
func (f Field) Value() string { return "" } // unfolded and trimmed

type Header struct{ fields []Field }

func Parse(b []byte) (Header, error)                                     { return Header{}, nil }
func (h Header) All() []Field                                            { return h.fields }
func (h Header) Fields(name string) []Field                              { return nil }
func (h Header) Get(name string) string                                  { return "" }
func (h Header) Has(name string) bool                                    { return false }
func (h Header) Count(name string) int                                   { return 0 }
func (h Header) Size() int                                               { return 0 }
func (h Header) Sealed() bool                                            { return false } // multipart/signed or encrypted
func Apply(h []byte, edits []mail.Edit) []byte                           { return h }
func CheckEdit(e mail.Edit) error                                        { return nil } // name and value are fit to be written
func ValidName(name string) bool                                         { return false }
func Downgrade(h []byte) ([]byte, error)                                 { return h, nil } // to ASCII; Failure 553 5.6.7 if an address is not
func ParseFrom(value string) (addr mail.Address, name string, err error) { return }

type Mailbox struct {
	Name    string
	Address mail.Address
}

func ParseAddressList(value string) ([]Mailbox, error)     { return nil, nil }
func FormatMailbox(name string, addr mail.Address) string  { return "" }
func EncodeText(s string) string                           { return "" }
func DecodeText(s string) string                           { return "" }
func Fold(name, value string) string                       { return "" } // "Name: value\r\n", folded at 78
func ValidMessageID(s string) bool                         { return false }
func ParseDate(s string) (time.Time, error)                { return time.Time{}, nil }
func FormatDate(t time.Time) string                        { return "" }
func ContentType(value string) (string, map[string]string) { return "", nil }
