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

	crs, lfs, pairs int64 // CR, LF and CRLF seen
	last            byte
	line            int64 // octets of the present line so far, its CR included
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
	if len(p) > 0 {
		s.form.EightBit = s.form.EightBit || eightBit(p)
		s.lines(p)
		s.body.Write(p)
	}
	return all, nil
}

// header takes the part of p that belongs to the header and gives its length.
func (s *Scanner) header(p []byte) (int, error) {
	old := len(s.head)
	s.head = append(s.head, p[:min(len(p), header.MaxBytes+1-old)]...)
	end := -1
	if bytes.HasPrefix(s.head, []byte("\r\n")) {
		end = 2
	} else if from := max(0, old-3); len(s.head) > 0 {
		if i := bytes.Index(s.head[from:], []byte("\r\n\r\n")); i >= 0 {
			end = from + i + 4
		}
	}
	if end >= 0 {
		s.head, s.inBody = s.head[:end], true
	}
	if len(s.head) > header.MaxBytes {
		return 0, header.TooLarge()
	}
	n := len(s.head) - old
	s.form.UTF8 = s.form.UTF8 || eightBit(p[:n])
	s.lines(p[:n])
	return n, nil
}

// lines notes line lengths and what only a binary body holds.
func (s *Scanner) lines(p []byte) {
	s.form.Binary = s.form.Binary || bytes.IndexByte(p, 0) >= 0
	s.crs += int64(bytes.Count(p, []byte{'\r'}))
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			s.line += int64(len(p))
			s.last = p[len(p)-1]
			return
		}
		before := s.last
		if i > 0 {
			before = p[i-1]
		}
		n := s.line + int64(i)
		s.lfs++
		if before == '\r' {
			s.pairs++
			n--
		}
		s.form.Long = s.form.Long || n > lineMost
		s.line, s.last = 0, '\n'
		p = p[i+1:]
	}
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
	s.form.Long = s.form.Long || s.line > lineMost
	s.form.Binary = s.form.Binary || s.crs != s.pairs || s.lfs != s.pairs
	if v, ok := header.Lookup(s.head, "Content-Type"); ok && header.IsMultipart(v) {
		media, _ := header.ContentType(v)
		s.form.Sealed = header.IsSealed(media)
	}
	s.sum = s.body.Sum()
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
