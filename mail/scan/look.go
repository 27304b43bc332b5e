package scan

import (
	"bytes"
	"encoding/binary"
)

// look is what passing over a text shows of what a hop must be able to carry. A
// [BodyHasher] fills it in as it goes; where nothing is hashed, write does.
type look struct {
	high    uint64 // all octets of text, or-ed; a top bit is set if one is over 127
	odd     bool   // NUL, a lone CR or a lone LF
	longest int64  // line that has ended, without its end
	line    int64  // octets of the present line before what is being written
	dotted  bool   // a line begins with a dot
	cr      bool   // write: they end in a CR
}

// lineEnd notes a line end whose text had n octets in the present Write.
func (l *look) lineEnd(n int) {
	l.longest = max(l.longest, l.line+int64(n))
	l.line = 0
}

// begin looks at the first of p, which begins a line unless one is open.
func (l *look) begin(p []byte) {
	if l.line == 0 && len(p) > 0 && p[0] == '.' {
		l.dotted = true
	}
}

// write takes the next stretch of a text.
func (l *look) write(p []byte) {
	if len(p) == 0 {
		return
	}
	l.begin(p)
	crs, pairs, begin := bytes.Count(p, []byte{'\r'}), 0, 0
	if l.cr {
		crs++
	}
	for {
		n := bytes.IndexByte(p[begin:], '\n')
		if n < 0 {
			break
		}
		begin += n + 1
		switch {
		case n > 0 && p[begin-2] == '\r', begin == 1 && l.cr:
			pairs++
			n--
		default:
			l.odd = true
		}
		l.lineEnd(n)
		l.begin(p[begin:])
	}
	l.line += int64(len(p) - begin)
	if l.cr = p[len(p)-1] == '\r'; l.cr {
		crs-- // its LF may come yet
	}
	l.odd = l.odd || crs != pairs || bytes.IndexByte(p, 0) >= 0
	l.high |= union(p)
}

// end ends the text.
func (l *look) end() { l.odd = l.odd || l.cr }

// eightBit reports whether an octet was over 127.
func (l *look) eightBit() bool { return l.high&tops != 0 }

// long reports whether a line was longer than any server must take.
func (l *look) long() bool { return max(l.longest, l.line) > lineMost }

// union is all octets of p, or-ed by eights and then some.
func union(p []byte) uint64 {
	var a, b, c, d uint64
	for ; len(p) >= 64; p = p[64:] {
		a |= binary.LittleEndian.Uint64(p) | binary.LittleEndian.Uint64(p[32:])
		b |= binary.LittleEndian.Uint64(p[8:]) | binary.LittleEndian.Uint64(p[40:])
		c |= binary.LittleEndian.Uint64(p[16:]) | binary.LittleEndian.Uint64(p[48:])
		d |= binary.LittleEndian.Uint64(p[24:]) | binary.LittleEndian.Uint64(p[56:])
	}
	for _, octet := range p {
		a |= uint64(octet)
	}
	return a | b | c | d
}
