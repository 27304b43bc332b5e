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
// It works on stretches that the rules leave alone and hands them on whole.
type BodyHasher struct {
	sha   hash.Hash
	blank int64 // line ends not yet handed on, in case they are the last
	wsp   bool  // blanks not yet handed on, in case the line ends
	cr    bool  // a CR at the end of the last Write
	some  bool  // anything was handed on
	n     int
	sum   [32]byte
	buf   [4096]byte
}

// NewBodyHasher gives a hasher for one body.
func NewBodyHasher() *BodyHasher { return &BodyHasher{sha: sha256.New()} }

// Reset makes it ready for another body.
func (b *BodyHasher) Reset() {
	b.sha.Reset()
	b.blank, b.wsp, b.cr, b.some, b.n = 0, false, false, false, 0
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
	at := b.resume(p)
	start := at // p[start:at] is unchanged text not yet handed on
	for {
		at = skip(p, at)
		if at == len(p) {
			b.emit(p[start:])
			return len(p), nil
		}
		switch p[at] {
		case '\r':
			if at+1 == len(p) {
				b.emit(p[start:at])
				b.cr = true
				return len(p), nil
			}
			at++
			if p[at] == '\n' {
				at++
			}
		case '\n':
			b.emit(p[start:at])
			b.blank++
			at++
			start = at
		case ' ', '\t':
			b.emit(p[start:at])
			b.wsp = true
			at += b.resume(p[at:])
			start = at
		default:
			at++
		}
	}
}

// resume settles what an earlier byte left open and says how much of p it used.
func (b *BodyHasher) resume(p []byte) int {
	if len(p) == 0 {
		return 0
	}
	if b.cr {
		if p[0] == '\n' {
			b.cr, b.wsp = false, false
			b.blank++
			return 1
		}
		b.loneCR()
	}
	if !b.wsp {
		return 0
	}
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
	b.cr = false
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
	ones   = 0x0101010101010101
	tops   = 0x8080808080808080
	spaces = ones * ' '
)

// skip gives the first index from at on whose byte is a control character, or a
// space that is the last byte or has a space or control after it; len(p) if
// there is none. It looks at eight bytes at a time; the words that may hold
// such a byte are looked at again one by one.
func skip(p []byte, at int) int {
	from := at
	for at+9 <= len(p) {
		w := binary.LittleEndian.Uint64(p[at:])
		control := (w - spaces) & ^w & tops // exact up to and with the first
		x := w ^ spaces
		space := (x - ones) & ^x & tops // likewise
		if control == 0 && (space == 0 || space&(space>>8) == 0 && (space>>56 == 0 || p[at+8] > ' ')) {
			at += 8
			continue
		}
		if control != 0 && space&(space>>8) == 0 { // a line end, most often
			at += bits.TrailingZeros64(control) / 8
			if at > from && p[at-1] == ' ' {
				at--
			}
			return at
		}
		for end := at + 8; at < end; at++ {
			if p[at] < ' ' || p[at] == ' ' && p[at+1] <= ' ' {
				return at
			}
		}
	}
	for ; at < len(p); at++ {
		if p[at] < ' ' || p[at] == ' ' && (at+1 == len(p) || p[at+1] <= ' ') {
			return at
		}
	}
	return at
}
