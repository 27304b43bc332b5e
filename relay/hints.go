package relay

import (
	"encoding/json"
	"strings"
	"time"

	"behalf/mail"
)

// hintPrefix begins every header field that is addressed to us; all of them,
// known or not, are removed before sending.
const hintPrefix = "behalf-"

// isHint tells whether a field is addressed to us.
func isHint(name string) bool {
	return len(name) > len(hintPrefix) && begins(name, hintPrefix)
}

// begins is strings.HasPrefix whatever the case.
func begins(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// The bounds of what a client may attach to a message.
const (
	maxTag      = 100
	maxMetadata = 20  // entries
	maxMetaText = 500 // octets of one key or value
	maxKey      = 200 // octets of an idempotency key
	maxAhead    = 60 * 24 * time.Hour
)

// setHint reads one Behalf-… field into h.
func (h *Hints) setHint(name, value string) error {
	value = strings.TrimSpace(value)
	bad := func(format string, args ...any) error {
		return mail.Fail(550, mail.Enhanced{5, 6, 0}, mail.OfMessage, mail.ReasonContent, name+": "+format, args...)
	}
	switch strings.ToLower(strings.TrimPrefix(strings.ToLower(name), hintPrefix)) {
	case "tenant":
		h.Tenant = value
	case "stream":
		h.Stream = value
	case "tag":
		h.Tag = value
	case "idempotency-key":
		h.IdempotencyKey = value
	case "metadata":
		if err := json.Unmarshal([]byte(value), &h.Metadata); err != nil {
			return bad("want a JSON object of strings such as {\"order\":\"17\"}")
		}
	case "send-at":
		at, err := time.Parse(time.RFC3339, value)
		if err != nil {
			return bad("want a time such as 2027-01-31T08:00:00Z")
		}
		h.SendAt = at
	case "route":
		h.Route = ParseRoute(value)
	case "method":
		h.Method = mail.Method(strings.ToLower(value))
	default:
		return bad("this hint is not known; known are Behalf-Tenant, -Stream, -Tag, -Metadata, -Send-At, -Idempotency-Key, -Route and -Method")
	}
	return nil
}

// ParseRoute reads a list such as "office, mx": a name that is not an upstream
// of every tenant is a connection.
func ParseRoute(s string) []mail.UpstreamID {
	var route []mail.UpstreamID
	for name := range strings.SplitSeq(s, ",") {
		switch u := mail.UpstreamID(strings.TrimSpace(name)); {
		case u == "":
		case u == mail.UpstreamMX, u == mail.UpstreamPlatform, u == mail.UpstreamMailbox, strings.HasPrefix(string(u), mail.ConnectionPrefix):
			route = append(route, u)
		default:
			route = append(route, mail.UpstreamID(mail.ConnectionPrefix)+u)
		}
	}
	return route
}

// check refuses hints that are out of bounds and fills in the default stream.
func (h *Hints) check(now time.Time) error {
	bad := func(format string, args ...any) error {
		return mail.Fail(550, mail.Enhanced{5, 6, 0}, mail.OfMessage, mail.ReasonContent, format, args...)
	}
	if h.Stream == "" {
		h.Stream = mail.StreamTransactional
	}
	if !isName(h.Stream) {
		return bad("stream %q: want up to 40 lower-case letters, digits and hyphens", h.Stream)
	}
	if len(h.Tag) > maxTag || !printable(h.Tag) {
		return bad("the tag must be printable and at most %d octets", maxTag)
	}
	if len(h.IdempotencyKey) > maxKey || !printable(h.IdempotencyKey) {
		return bad("the idempotency key must be printable and at most %d octets", maxKey)
	}
	if len(h.Metadata) > maxMetadata {
		return bad("metadata holds more than %d entries", maxMetadata)
	}
	for k, v := range h.Metadata {
		if len(k) > maxMetaText || len(v) > maxMetaText {
			return bad("a key or value of metadata is longer than %d octets", maxMetaText)
		}
	}
	if h.SendAt.After(now.Add(maxAhead)) {
		return bad("send_at is more than 60 days ahead")
	}
	switch h.Method {
	case "", mail.MethodDomain, mail.MethodConnection, mail.MethodAddress, mail.MethodName:
	default:
		return bad("method %q is not known; known are domain, connection, address and name", h.Method)
	}
	return nil
}

// isName tells whether s can be a stream's name, which becomes part of keys,
// lanes and header fields.
func isName(s string) bool {
	if s == "" || len(s) > 40 || s[0] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

func printable(s string) bool {
	for _, c := range s {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	return true
}
