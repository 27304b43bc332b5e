package scan

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math/bits"
)

// BodyHasher computes the SHA-256 of a body under DKIM's relaxed
// canonicalisation (RFC 6376, section 3.4.4): blanks at line ends go, runs of
// blanks become one space, empty lines at the end go, a body that is not empty
// ends in CRLF. A lone LF counts as CRLF and a lone CR as text, which only a
// binary body can hold.
//
// It works on stretches that the rules leave alone and hands them on whole. As
// it stops at every control character anyway, it also notes what a [Scanner]
// wants to know of the body, so that nobody has to go through it again.
type BodyHasher struct {
	sha   hash.Hash
	blank int64 // line ends not yet handed on, in case they are the last
	wsp   bool  // blanks not yet handed on, in case the line ends
	cr    bool  // a CR at the end of the last Write
	some  bool  // anything was handed on
	n     int
	look  look
	sum   [32]byte
	buf   [4096]byte
}

// NewBodyHasher gives a hasher for one body.
func NewBodyHasher() *BodyHasher { return &BodyHasher{sha: sha256.New()} }

// Reset makes it ready for another body.
func (b *BodyHasher) Reset() {
	b.sha.Reset()
	b.blank, b.wsp, b.cr, b.some, b.n, b.look = 0, false, false, false, 0, look{}
}

// Sum ends the body and gives its hash.
func (b *BodyHasher) Sum() [32]byte {
	if b.cr {
		b.loneCR()
	}
	if b.some {
		b.put("\r\n")
	}
	b.flush()
	b.sha.Sum(b.sum[:0]) // not into a local, which would move to the heap
	return b.sum
}

// Write takes the next stretch of the body. It never fails.
func (b *BodyHasher) Write(p []byte) (int, error) {
	at, line := b.resume(p) // p[line:] begins or goes on with the present line
	start := at             // p[start:at] is unchanged text not yet handed on
	b.look.begin(p[line:])
	for {
		at = skip(p, at, &b.look.high)
		if at == len(p) {
			b.emit(p[start:])
			break
		}
		c := p[at]
		if c == '\r' {
			if at+1 == len(p) {
				b.emit(p[start:at])
				b.cr = true
				break
			}
			at++
			if p[at] == '\n' {
				b.look.lineEnd(at - 1 - line)
				at++
				line = at
				b.look.begin(p[line:])
			} else {
				b.look.odd = true
			}
			continue
		}
		switch c {
		case '\n':
			b.emit(p[start:at])
			b.blank++
			b.look.lineEnd(at - line)
			b.look.odd = true
			at++
			start, line = at, at
			b.look.begin(p[line:])
		case ' ', '\t':
			b.emit(p[start:at])
			b.wsp = true
			at += b.blanks(p[at:])
			start = at
		default:
			b.look.odd = b.look.odd || c == 0
			at++
		}
	}
	b.look.line += int64(len(p) - line)
	return len(p), nil
}

// resume settles what an earlier Write left open. It says how much of p it used,
// and where in p the present line begins or goes on.
func (b *BodyHasher) resume(p []byte) (at, line int) {
	if len(p) == 0 {
		return 0, 0
	}
	if b.cr {
		if p[0] == '\n' {
			b.cr, b.wsp = false, false
			b.blank++
			b.look.lineEnd(-1)
			return 1, 1
		}
		b.loneCR()
	}
	if !b.wsp {
		return 0, 0
	}
	return b.blanks(p), 0
}

// blanks passes blanks and says how many octets of p it used. At the end of p
// the rest is left to resume.
func (b *BodyHasher) blanks(p []byte) int {
	at := 0
	for at < len(p) && (p[at] == ' ' || p[at] == '\t') {
		at++
	}
	switch {
	case at == len(p):
	case p[at] == '\r' && at+1 == len(p):
		b.cr = true
		at++
	case p[at] == '\n' || p[at] == '\r' && p[at+1] == '\n':
		b.wsp = false
	default:
		b.space()
	}
	return at
}

// loneCR hands on a CR that no LF followed.
func (b *BodyHasher) loneCR() {
	if b.wsp {
		b.space()
	}
	b.cr, b.look.odd = false, true
	b.text()
	b.put("\r")
}

func (b *BodyHasher) space() {
	b.wsp = false
	b.text()
	b.put(" ")
}

// emit hands p on but for the line ends at its end.
func (b *BodyHasher) emit(p []byte) {
	end := len(p)
	for end >= 2 && p[end-2] == '\r' && p[end-1] == '\n' {
		end -= 2
	}
	if end > 0 {
		b.text()
		if end > len(b.buf)/4 {
			b.flush()
			b.sha.Write(p[:end])
		} else {
			if b.n+end > len(b.buf) {
				b.flush()
			}
			b.n += copy(b.buf[b.n:], p[:end])
		}
	}
	b.blank += int64(len(p)-end) / 2
}

// text is called before text is handed on: the line ends before it count.
func (b *BodyHasher) text() {
	for ; b.blank > 0; b.blank-- {
		b.put("\r\n")
	}
	b.some = true
}

func (b *BodyHasher) put(s string) {
	if b.n+len(s) > len(b.buf) {
		b.flush()
	}
	b.n += copy(b.buf[b.n:], s)
}

func (b *BodyHasher) flush() {
	b.sha.Write(b.buf[:b.n])
	b.n = 0
}

const (
	ones = 0x0101010101010101
	tops = 0x8080808080808080
)

// skip gives the first index from at on whose byte is a control character, or a
// space that is the last byte or has a space or control after it; len(p) if
// there is none. It looks at sixteen bytes at a time. All bytes that it passes
// are or-ed into high, and perhaps some after them.
func skip(p []byte, at int, high *uint64) int {
	all := *high
	for ; at+17 <= len(p); at += 16 {
		v, w := binary.LittleEndian.Uint64(p[at:]), binary.LittleEndian.Uint64(p[at+8:])
		all |= v | w
		a, b := plain(v, v>>8|w<<56), plain(w, binary.LittleEndian.Uint64(p[at+9:]))
		if a&b == tops {
			continue
		}
		*high = all
		if a != tops {
			return at + bits.TrailingZeros64(^a&tops)/8
		}
		return at + 8 + bits.TrailingZeros64(^b&tops)/8
	}
	for ; at < len(p); at++ {
		if p[at] < ' ' || p[at] == ' ' && (at+1 == len(p) || p[at+1] <= ' ') {
			break
		}
		all |= uint64(p[at])
	}
	*high = all
	return at
}

// plain sets the top bit of each byte of w that is no control, and is no space
// that a space or control follows; next is the bytes after those of w.
func plain(w, next uint64) uint64 {
	const (
		text   = ones * (0x80 - ' ')       // added to seven bits, sets the top bit unless it is a control
		beyond = ones * (0x80 - (' ' + 1)) // likewise, unless it is that or a space
	)
	low, lowNext := w&^tops, next&^tops
	return (low + text | w) & ((low + beyond) | (lowNext + beyond) | w | next) & tops
}
