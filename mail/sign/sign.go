// Package sign makes DKIM signatures (RFC 6376, RFC 8463) from a header and a
// body hash that was computed while the body came in, and reads and writes keys
// and their DNS records.
//
// Signing is relaxed/relaxed in one pass over the header, whose canonical form
// all keys share. The length of the signature fields is known before anything is
// signed, so that a SIZE can be announced first. The fields that a forger would
// like to add are signed once more than they occur, which makes adding one break
// the signature (section 5.4.2); trace fields are never signed.
package sign

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Key signs for a domain under a selector.
type Key struct {
	Domain, Selector string
	Signer           crypto.Signer // RSA or Ed25519
}

// Algorithm is the a= tag, or "" if the key is of no kind that DKIM knows.
func (k Key) Algorithm() string {
	if k.Signer == nil {
		return ""
	}
	switch k.Signer.Public().(type) {
	case *rsa.PublicKey:
		return "rsa-sha256"
	case ed25519.PublicKey:
		return "ed25519-sha256"
	}
	return ""
}

// String names the key as traces show it.
func (k Key) String() string { return "d=" + k.Domain + " s=" + k.Selector + " a=" + k.Algorithm() }

// signatureLen is the number of octets of a signature.
func (k Key) signatureLen() int {
	if pub, ok := k.Signer.Public().(*rsa.PublicKey); ok {
		return pub.Size()
	}
	return ed25519.SignatureSize
}

// sign signs the hash of the header. RFC 8463 signs the hash itself with plain
// Ed25519.
func (k Key) sign(sum []byte) ([]byte, error) {
	if _, ok := k.Signer.Public().(*rsa.PublicKey); ok {
		return k.Signer.Sign(rand.Reader, sum, crypto.SHA256)
	}
	return k.Signer.Sign(rand.Reader, sum, crypto.Hash(0))
}

// Options say how to sign.
type Options struct {
	Keys    []Key
	Time    time.Time // t=
	Expires time.Time // x=; zero: none
	Exclude []string  // fields that the next hop rewrites: not signed
}

// guarded fields are signed once more than they occur.
var guarded = []string{"From", "Sender", "Reply-To", "To", "Cc", "Subject", "Date", "Message-ID", "In-Reply-To", "References",
	"MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "List-Unsubscribe", "List-Unsubscribe-Post", "Feedback-ID"}

// covered fields are signed where they occur; mailing lists and forwarders add
// them with good reason.
var covered = []string{"Resent-Date", "Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc", "Resent-Message-ID",
	"List-Id", "List-Help", "List-Subscribe", "List-Post", "List-Owner", "List-Archive", "Content-ID", "Content-Description",
	"Auto-Submitted", "Precedence", "Organization"}

// Draft is a set of signatures that lacks only the signing.
type Draft struct {
	keys   []Key
	common []byte   // canonical form of the signed fields
	heads  [][]byte // the signature fields up to and with "b="
	size   int
}

// Sign gives the DKIM-Signature fields of a message in the order of the keys,
// with their line ends. header is what will stand below them; bodyHash is that
// of the relaxed canonical body.
func Sign(header []byte, bodyHash [32]byte, o Options) ([]byte, error) {
	d, err := NewDraft(header, bodyHash, o)
	if err != nil {
		return nil, err
	}
	return d.Sign()
}

// NewDraft does all but the signing. The error names a key that cannot be used.
func NewDraft(header []byte, bodyHash [32]byte, o Options) (*Draft, error) {
	d := &Draft{keys: o.Keys}
	if len(o.Keys) == 0 {
		return d, nil
	}
	names, common := canonicalHeader(header, o.Exclude)
	d.common = common
	for _, k := range o.Keys {
		if err := check(k); err != nil {
			return nil, err
		}
		h := head(k, names, bodyHash, o)
		d.heads = append(d.heads, h)
		d.size += len(h) + signatureField(k.signatureLen())
	}
	return d, nil
}

func check(k Key) error {
	switch {
	case k.Domain == "" || k.Selector == "" || strings.ContainsAny(k.Domain+k.Selector, " \t\r\n;="):
		return fmt.Errorf("DKIM key %s: bad domain or selector", k)
	case k.Algorithm() == "":
		return fmt.Errorf("DKIM key %s: want an RSA or Ed25519 key", k)
	case k.Algorithm() == "rsa-sha256" && k.signatureLen() < 128:
		return fmt.Errorf("DKIM key %s: RSA keys under 1024 bits are refused everywhere", k)
	}
	return nil
}

// Size is the exact length of what Sign will give.
func (d *Draft) Size() int { return d.size }

// Sign signs with every key.
func (d *Draft) Sign() ([]byte, error) {
	out := make([]byte, 0, d.size)
	shared := sha256.New()
	shared.Write(d.common)
	prefix := shared.(interface{ MarshalBinary() ([]byte, error) })
	state, err := prefix.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("hash of the header: %w", err)
	}
	for i, k := range d.keys {
		h := sha256.New()
		if err := h.(interface{ UnmarshalBinary([]byte) error }).UnmarshalBinary(state); err != nil {
			return nil, fmt.Errorf("hash of the header: %w", err)
		}
		own := appendRelaxed(nil, d.heads[i])
		h.Write(own[:len(own)-len("\r\n")])
		sig, err := k.sign(h.Sum(nil))
		if err != nil {
			return nil, fmt.Errorf("sign with %s: %w", k, err)
		}
		if len(sig) != k.signatureLen() {
			return nil, fmt.Errorf("sign with %s: a signature of %d octets, want %d", k, len(sig), k.signatureLen())
		}
		out = append(out, d.heads[i]...)
		out = appendSignature(out, sig)
	}
	return out, nil
}

// field is one field of the header being signed.
type field struct {
	raw  []byte
	name []byte // as written
}

// fields splits a header; it stops at the empty line.
func fields(header []byte) []field {
	list := make([]field, 0, 32)
	for rest := header; len(rest) > 0 && !bytes.HasPrefix(rest, []byte("\r\n")); {
		end := 0
		for {
			i := bytes.IndexByte(rest[end:], '\n')
			if i < 0 {
				end = len(rest)
				break
			}
			end += i + 1
			if end == len(rest) || rest[end] != ' ' && rest[end] != '\t' {
				break
			}
		}
		if colon := bytes.IndexByte(rest[:end], ':'); colon > 0 {
			list = append(list, field{rest[:end], bytes.TrimRight(rest[:colon], " \t")})
		}
		rest = rest[end:]
	}
	return list
}

// canonicalHeader gives the names for h= and the canonical form of the fields
// they stand for: of each name the last occurrence first (section 5.4.2).
func canonicalHeader(header []byte, exclude []string) (names []string, canon []byte) {
	all := fields(header)
	canon = make([]byte, 0, len(header))
	take := func(name string) {
		for i := len(all) - 1; i >= 0; i-- {
			if len(all[i].name) == len(name) && strings.EqualFold(string(all[i].name), name) {
				names = append(names, name)
				canon = appendRelaxed(canon, all[i].raw)
			}
		}
	}
	excluded := func(name string) bool {
		return slices.ContainsFunc(exclude, func(x string) bool { return strings.EqualFold(x, name) })
	}
	for _, name := range guarded {
		if !excluded(name) {
			take(name)
			names = append(names, name)
		}
	}
	for _, name := range covered {
		if !excluded(name) {
			take(name)
		}
	}
	return names, canon
}

// appendRelaxed appends a field in relaxed canonicalisation (section 3.4.2).
func appendRelaxed(out, raw []byte) []byte {
	colon := bytes.IndexByte(raw, ':')
	for _, c := range bytes.TrimRight(raw[:colon], " \t") {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		out = append(out, c)
	}
	out = append(out, ':')
	blank, text := false, false
	for _, c := range raw[colon+1:] {
		switch c {
		case ' ', '\t':
			blank = true
		case '\r', '\n':
		default:
			if blank && text {
				out = append(out, ' ')
			}
			blank, text = false, true
			out = append(out, c)
		}
	}
	return append(out, "\r\n"...)
}

// lineWanted is how long the lines of a signature field may be.
const lineWanted = 76

// head is the signature field up to and with "b=", folded.
func head(k Key, names []string, bodyHash [32]byte, o Options) []byte {
	b := make([]byte, 0, 900)
	b = append(b, "DKIM-Signature: v=1; a="+k.Algorithm()+"; c=relaxed/relaxed;"...)
	col := len(b)
	tag := func(s string) {
		if col+1+len(s) > lineWanted {
			b = append(b, "\r\n"...)
			col = 0
		}
		b = append(append(b, ' '), s...)
		col += 1 + len(s)
	}
	tag("d=" + k.Domain + ";")
	tag("s=" + k.Selector + ";")
	tag("t=" + strconv.FormatInt(o.Time.Unix(), 10) + ";")
	if !o.Expires.IsZero() {
		tag("x=" + strconv.FormatInt(o.Expires.Unix(), 10) + ";")
	}
	for i, name := range names {
		if i == 0 {
			name = "h=" + name
		}
		end := byte(':')
		if i == len(names)-1 {
			end = ';'
		}
		if i == 0 {
			tag(name + string(end))
			continue
		}
		if col+len(name)+1 > lineWanted {
			b = append(b, "\r\n "...)
			col = 1
		}
		b = append(append(b, name...), end)
		col += len(name) + 1
	}
	tag("bh=" + base64.StdEncoding.EncodeToString(bodyHash[:]) + ";")
	b = append(b, "\r\n b="...)
	return b
}

// The signature's base64 stands in lines of this length, the first behind " b=".
const base64Line = 72

// signatureField is the length of what appendSignature adds.
func signatureField(octets int) int {
	n := base64.StdEncoding.EncodedLen(octets)
	return n + (n-1)/base64Line*len("\r\n ") + len("\r\n")
}

func appendSignature(out, sig []byte) []byte {
	text := base64.StdEncoding.AppendEncode(nil, sig)
	for len(text) > base64Line {
		out = append(append(out, text[:base64Line]...), "\r\n "...)
		text = text[base64Line:]
	}
	return append(append(out, text...), "\r\n"...)
}
