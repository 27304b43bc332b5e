package relay

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"behalf/mail"
	"behalf/mail/header"
)

// maxReceived is how many Received fields a message may carry before it counts
// as going round in circles (RFC 5321, section 6.3); maxOurs how many of them
// may be ours.
const (
	maxReceived = 50
	maxOurs     = 4
)

// received appends our trace field. It names neither the client's address nor its
// HELO: who sent the message is the tenant's business, and receivers would
// judge the mail by an app server's address.
func received(b []byte, hostname string, m *mail.Message, tls bool) []byte {
	b = append(append(append(b, "Received: by "...), hostname...), " (Behalf)"...)
	switch m.Door {
	case mail.DoorHTTP:
		b = append(b, " with HTTP"...)
	case mail.DoorSMTP:
		with := " with ESMTP"
		if m.Envelope.UTF8 {
			with = " with UTF8SMTP" // RFC 6531, section 4.3
		}
		b = append(b, with...)
		if tls {
			b = append(b, 'S')
		}
		b = append(b, 'A')
	}
	b = append(m.ID.Append(append(b, " id "...)), ";\r\n\t"...)
	return append(header.AppendDate(b, m.Accepted), "\r\n"...)
}

// looping tells whether a message has passed too often, through us or at all.
func looping(hostname string, h header.Header) bool {
	fields := h.Fields("Received")
	if len(fields) > maxReceived {
		return true
	}
	ours := 0
	for _, f := range fields {
		if strings.Contains(f.Value(), "by "+hostname+" (Behalf)") {
			ours++
		}
	}
	return ours > maxOurs
}

// newMessageID makes the Message-ID of a message that came without one.
func newMessageID(id mail.ID, domain string) string {
	var b [6]byte
	rand.Read(b[:])
	return "<" + id.String() + "." + hex.EncodeToString(b[:]) + "@" + domain + ">"
}

// front is what stands before the client's own header at every attempt:
// Received, and Message-ID and Date where the client gave none.
func front(hostname string, m *mail.Message, h header.Header, tls bool) []byte {
	b := received(make([]byte, 0, 256), hostname, m, tls)
	if !h.Has("Message-ID") {
		b = append(append(append(b, "Message-ID: "...), m.MessageID...), "\r\n"...)
	}
	if !h.Has("Date") {
		b = append(header.AppendDate(append(b, "Date: "...), m.Accepted.In(time.UTC)), "\r\n"...)
	}
	return b
}

// dropped are fields that never leave the relay, besides the hints.
var dropped = [...]string{"Bcc", "Resent-Bcc", "Return-Path", "X-Originating-IP"}

// hygiene lists the edits of the client's header that do not depend on the
// hop: hints and private fields go, and Sender stays only if the tenant owns it.
func hygiene(h header.Header, ownsSender func(mail.Address) bool) []mail.Edit {
	var edits []mail.Edit
	for _, f := range h.All() {
		if begins(f.Name, hintPrefix) && !slices.ContainsFunc(edits, func(e mail.Edit) bool { return strings.EqualFold(e.Name, f.Name) }) {
			edits = append(edits, mail.Edit{Op: mail.EditRemove, Name: f.Name})
		}
	}
	for _, name := range dropped {
		if h.Has(name) {
			edits = append(edits, mail.Edit{Op: mail.EditRemove, Name: name})
		}
	}
	if h.Has("Sender") {
		a, _, err := header.ParseFrom(h.Get("Sender"))
		if err != nil || h.Count("Sender") > 1 || !ownsSender(a) {
			edits = append(edits, mail.Edit{Op: mail.EditRemove, Name: "Sender"})
		}
	}
	return edits
}
