// Package scan looks at a message while it streams in, once: [Scanner] keeps
// the header, hashes the body as DKIM wants it and notes what a hop must be able
// to do to carry it. [ReadParts] lists attachments and links for policies that
// ask for them. Neither holds a body in memory.
package scan

import (
	"bytes"
	"encoding/binary"

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
	sum    [32]byte
	form   mail.BodyForm
}

// New gives a Scanner for one message.
func New() *Scanner { return &Scanner{body: NewBodyHasher()} }

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
	s.body.Write(p)
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

// lines notes line lengths of the header and what only binary content holds.
func (s *Scanner) lines(p []byte) {
	crs, pairs, lfs := bytes.Count(p, []byte{'\r'}), 0, 0
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			s.form.Long = s.form.Long || len(p) > lineMost
			break
		}
		n := i
		lfs++
		if i > 0 && p[i-1] == '\r' {
			pairs++
			n--
		}
		s.form.Long = s.form.Long || n > lineMost
		p = p[i+1:]
	}
	s.form.Binary = crs != pairs || lfs != pairs
}

// eightBit reports whether p holds an octet over 127.
func eightBit(p []byte) bool {
	for ; len(p) >= 32; p = p[32:] {
		w := binary.LittleEndian.Uint64(p) | binary.LittleEndian.Uint64(p[8:]) |
			binary.LittleEndian.Uint64(p[16:]) | binary.LittleEndian.Uint64(p[24:])
		if w&tops != 0 {
			return true
		}
	}
	for _, c := range p {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

// Close ends the message. It gives the error of Write, if there was one.
func (s *Scanner) Close() error {
	if s.err != nil {
		return s.err
	}
	s.sum = s.body.Sum()
	s.lines(s.head)
	body := &s.body.look
	s.form.UTF8 = eightBit(s.head)
	s.form.EightBit = body.high&tops != 0
	s.form.Long = s.form.Long || max(body.longest, body.line) > lineMost
	s.form.Binary = s.form.Binary || body.odd || bytes.IndexByte(s.head, 0) >= 0
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

// BodyHash is the SHA-256 of the body in relaxed canonicalisation.
func (s *Scanner) BodyHash() [32]byte { return s.sum }

// Form says what a hop must be able to do to carry the message as it is.
func (s *Scanner) Form() mail.BodyForm { return s.form }
