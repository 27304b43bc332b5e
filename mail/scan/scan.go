// Package scan looks at a message while it streams in, once: [Scanner] keeps
// the header, hashes the body as DKIM wants it, if somebody will sign it, and notes
// what a hop must be able to do to carry it. [ReadParts] lists attachments and links for policies that
// ask for them. Neither holds a body in memory.
package scan

import (
	"bytes"
	"io"

	"behalf/mail"
	"behalf/mail/header"
)

// lineMost is the longest line without its end (RFC 5321, section 4.5.3.1.6).
const lineMost = 998

// Scanner is an io.Writer for one message with CRLF line ends. Its results hold
// after Close. It may be used again after Reset and allocates nothing then.
type Scanner struct {
	head   []byte
	inBody bool
	err    error
	size   int64
	body   *BodyHasher
	plain  bool // the body is looked at but not hashed
	look   look // of the body then
	sum    [32]byte
	form   mail.BodyForm
}

// New gives a Scanner for one message, which hashes the body.
func New() *Scanner { return &Scanner{body: NewBodyHasher()} }

// WithoutHash leaves the body hash out, which costs most of the work. It is called
// before the first Write and holds until Reset.
func (s *Scanner) WithoutHash() { s.plain = true }

// Reset makes the scanner ready for another message.
func (s *Scanner) Reset() {
	s.body.Reset()
	*s = Scanner{head: s.head[:0], body: s.body}
}

// Write takes the next octets of the message. Its error is the [*mail.Failure]
// of a header over its limit of octets, and stays.
func (s *Scanner) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	all := len(p)
	s.size += int64(all)
	if !s.inBody {
		n, err := s.header(p)
		if err != nil {
			s.err = err
			return 0, err
		}
		p = p[n:]
	}
	if s.plain {
		s.look.write(p)
	} else {
		s.body.Write(p)
	}
	return all, nil
}

// header takes the part of p that belongs to the header and gives its length.
func (s *Scanner) header(p []byte) (int, error) {
	n := len(p)
	if end := emptyLine(s.head, p); end >= 0 {
		n, s.inBody = end, true
	}
	n = min(n, header.MaxBytes+1-len(s.head))
	s.head = append(s.head, p[:n]...)
	if len(s.head) > header.MaxBytes {
		return 0, header.TooLarge()
	}
	return n, nil
}

// emptyLine is where in p the empty line after the header ends, of which head
// came before; -1 if it does not.
func emptyLine(head, p []byte) int {
	const end = "\r\n\r\n"
	// The header may begin with its empty line, as if another line had been
	// before it, and it may begin in head and end in p.
	var joint [2*len(end) - 2]byte
	before := joint[:0]
	if len(head) < len(end)-1 {
		before = append(before, end[:2]...)
	}
	before = append(before, head[max(0, len(head)-len(end)+1):]...)
	before = before[max(0, len(before)-len(end)+1):]
	across := append(before, p[:min(len(p), len(end)-1)]...)
	if i := bytes.Index(across, []byte(end)); i >= 0 {
		return i + len(end) - len(before)
	}
	if i := bytes.Index(p, []byte(end)); i >= 0 {
		return i + len(end)
	}
	return -1
}

// Close ends the message. It gives the error of Write, if there was one.
func (s *Scanner) Close() error {
	if s.err != nil {
		return s.err
	}
	body := &s.look
	if !s.plain {
		s.sum = s.body.Sum()
		body = &s.body.look
	}
	var head look
	head.write(s.head)
	head.end()
	body.end()
	s.form.UTF8 = head.eightBit()
	s.form.EightBit = body.eightBit()
	s.form.Long = head.long() || body.long()
	s.form.Binary = head.odd || body.odd
	s.form.Undotted = !body.dotted
	if v, ok := header.Lookup(s.head, "Content-Type"); ok && header.IsMultipart(v) {
		media, _ := header.ContentType(v)
		s.form.Sealed = header.IsSealed(media)
	}
	return nil
}

// Header is the header with its empty line, or the whole message if it has no
// empty line. It is good until Reset.
func (s *Scanner) Header() []byte { return s.head }

// HeaderSize is the length of Header.
func (s *Scanner) HeaderSize() int { return len(s.head) }

// Size is the number of octets written.
func (s *Scanner) Size() int64 { return s.size }

// BodyHash is the SHA-256 of the body in relaxed canonicalisation; all zero if it
// was left out.
func (s *Scanner) BodyHash() [32]byte { return s.sum }

// HashBody computes the hash after all, from the whole message that was written.
func (s *Scanner) HashBody(msg io.WriterTo) ([32]byte, error) {
	s.body.Reset()
	b := below{skip: len(s.head), to: s.body}
	if _, err := msg.WriteTo(&b); err != nil {
		return [32]byte{}, err
	}
	return s.body.Sum(), nil
}

// below hands on all but the first octets.
type below struct {
	skip int
	to   *BodyHasher
}

func (b *below) Write(p []byte) (int, error) {
	n := min(b.skip, len(p))
	b.skip -= n
	b.to.Write(p[n:])
	return len(p), nil
}

// Form says what a hop must be able to do to carry the message as it is.
func (s *Scanner) Form() mail.BodyForm { return s.form }
