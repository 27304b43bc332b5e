package mail

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"time"
)

// TenantID numbers a tenant: a random unique number that is never used again.
// Zero is the platform itself.
type TenantID uint32

// ID names one accepted message. It is, in this order, the spool partition
// (2 bytes), the tenant (4), the millisecond of acceptance (6) and randomness
// (4), so an id tells where its message lives, and ids of one tenant sort by
// time of acceptance.
type ID [16]byte

var idText = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// IDLen is the length of the text form of an [ID].
const IDLen = 26

// NewID makes a fresh id for a message that tenant submits at the given time.
func NewID(partition uint16, tenant TenantID, at time.Time) ID {
	var id ID
	binary.BigEndian.PutUint16(id[0:], partition)
	binary.BigEndian.PutUint32(id[2:], uint32(tenant))
	ms := uint64(at.UnixMilli())
	binary.BigEndian.PutUint16(id[6:], uint16(ms>>32))
	binary.BigEndian.PutUint32(id[8:], uint32(ms))
	rand.Read(id[12:]) // never fails: crypto/rand ends the process instead
	return id
}

// ParseID reads the text form of an id, in either case.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != IDLen {
		return ID{}, fmt.Errorf("message id %q: want %d characters", s, IDLen)
	}
	var lower [IDLen]byte
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	if _, err := idText.Decode(id[:], lower[:]); err != nil {
		return ID{}, fmt.Errorf("message id %q: not base 32 hex", s)
	}
	if id.String() != string(lower[:]) {
		return ID{}, fmt.Errorf("message id %q: not canonical", s)
	}
	return id, nil
}

// String is the text form: 26 characters of lower-case base 32 hex, which sort
// as the ids do.
func (id ID) String() string {
	var text [IDLen]byte
	return string(id.Append(text[:0]))
}

// Append appends what String gives.
func (id ID) Append(b []byte) []byte {
	var text [IDLen]byte
	idText.Encode(text[:], id[:])
	return append(b, text[:]...)
}

// IsZero reports whether id names no message.
func (id ID) IsZero() bool { return id == ID{} }

// Partition is the spool partition that keeps the message.
func (id ID) Partition() uint16 { return binary.BigEndian.Uint16(id[0:]) }

// Tenant is whose message it is.
func (id ID) Tenant() TenantID { return TenantID(binary.BigEndian.Uint32(id[2:])) }

// Time is when the message was submitted, to the millisecond.
func (id ID) Time() time.Time {
	ms := uint64(binary.BigEndian.Uint16(id[6:]))<<32 | uint64(binary.BigEndian.Uint32(id[8:]))
	return time.UnixMilli(int64(ms)).UTC()
}

// MarshalText is String, for JSON and YAML.
func (id ID) MarshalText() ([]byte, error) { return id.Append(make([]byte, 0, IDLen)), nil }

// UnmarshalText is ParseID, for JSON and YAML.
func (id *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	if err == nil {
		*id = v
	}
	return err
}
