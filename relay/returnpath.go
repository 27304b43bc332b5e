package relay

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"strings"

	"behalf/mail"
)

// Tokens signs what comes back to us in the local part of a return path or in
// the link of an unsubscribe: which message and which of its recipients. A
// token holds no address, reads the same in either case, is the same at every
// attempt, and cannot be made without the key.
type Tokens struct{ key [32]byte }

// NewTokens uses a key that must stay the same for as long as bounces and
// clicks may come back.
func NewTokens(key [32]byte) Tokens { return Tokens{key} }

// wholeMessage is the recipient index of a token that stands for all of them.
const wholeMessage = 0xffff

// macLen is the length of the authenticator: 80 bits, which cannot be guessed
// by mail.
const macLen = 10

var tokenText = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

var errToken = errors.New("not a token of ours")

func (t Tokens) make(purpose string, id mail.ID, recipient int) string {
	b := make([]byte, 0, len(id)+2+macLen)
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(recipient))
	b = append(b, t.mac(purpose, b)...)
	return tokenText.EncodeToString(b)
}

func (t Tokens) mac(purpose string, b []byte) []byte {
	h := hmac.New(sha256.New, t.key[:])
	h.Write([]byte(purpose))
	h.Write([]byte{0})
	h.Write(b)
	return h.Sum(nil)[:macLen]
}

func (t Tokens) parse(purpose, s string) (id mail.ID, recipient int, err error) {
	b, err := tokenText.DecodeString(strings.ToLower(s))
	if err != nil || len(b) != len(id)+2+macLen {
		return id, 0, errToken
	}
	body, mac := b[:len(id)+2], b[len(id)+2:]
	if !hmac.Equal(mac, t.mac(purpose, body)) {
		return id, 0, errToken
	}
	copy(id[:], body)
	return id, int(binary.BigEndian.Uint16(body[len(id):])), nil
}

// returnPathPrefix begins the local part of every return path: with the token
// it is 47 octets, under the 64 of RFC 5321.
const returnPathPrefix = "b-"

// ReturnPath is the envelope sender of a message for one recipient under hop:
// the null path stays null, an account's address stays as it is, and every
// other is a token at the hop's host.
func (t Tokens) ReturnPath(m *mail.Message, hop *mail.Hop, recipient int) mail.Address {
	if m.Envelope.From.IsZero() {
		return mail.Address{}
	}
	if hop.ReturnPath.Host == "" {
		return hop.ReturnPath.Fixed
	}
	if hop.ReturnPath.PerMessage {
		recipient = wholeMessage
	}
	return mail.Address{Local: returnPathPrefix + t.make("return-path", m.ID, recipient), Domain: hop.ReturnPath.Host}
}

// Unsubscribe is the token of a one-click unsubscribe link.
func (t Tokens) Unsubscribe(id mail.ID, recipient int) string {
	return t.make("unsubscribe", id, recipient)
}

// ParseUnsubscribe finds the message and recipient of an unsubscribe token.
func (t Tokens) ParseUnsubscribe(s string) (mail.ID, int, error) { return t.parse("unsubscribe", s) }
