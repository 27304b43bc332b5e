package habit

import (
	"bytes"
	"math/bits"
)

// Likeness are the fingerprints (SimHash over words and pairs of words) of how
// the texts of a message begin, and of all the rest: texts that differ in few
// words have fingerprints that differ in few bits. The zero value is none: even
// no text has one. Without much of a rest, Rest is Head.
type Likeness struct {
	_    struct{} `cbor:",toarray"`
	Head uint64
	Rest uint64
}

// alikeBits is in how many of the 64 bits two texts that count as alike may
// differ. Texts that have nothing in common differ in 32, give or take 4.
const alikeBits = 12

// Alike tells whether two texts are the same but for a few words.
func (l Likeness) Alike(m Likeness) bool { return l.within(m, alikeBits) }

func (l Likeness) within(m Likeness, most int) bool {
	return bits.OnesCount64(l.Head^m.Head) <= most && bits.OnesCount64(l.Rest^m.Rest) <= most
}

func (l Likeness) distance(m Likeness) int {
	return bits.OnesCount64(l.Head^m.Head) + bits.OnesCount64(l.Rest^m.Rest)
}

// sketch adds up the bits of features. A lane holds the counters, a byte each, of
// every eighth bit; it is emptied into totals before one runs over.
type sketch struct {
	hosts  *Hosts
	thinly bool // every other word and no pairs
	lanes  [8]uint64
	filled int
	totals [64]int32
	n      int32
	last   uint64 // hash of the word before
	exact  uint64
}

func (s *sketch) text(b []byte) {
	for i := 0; i < len(b); {
		switch c := b[i]; {
		case isLetter(c):
			i = s.word(b, i)
		case c == '<':
			i = len(b) - len(s.markup(b[i:]))
		default:
			i++
		}
	}
}

// markup passes over a tag but for the host of a link in it. A "<" that begins
// no tag is passed over alone.
func (s *sketch) markup(b []byte) []byte {
	end := bytes.IndexByte(b, '>')
	if end < 0 || len(b) > 1 && !isLetter(b[1]) && b[1] != '/' && b[1] != '!' {
		return b[1:]
	}
	for tag := b[:end]; ; {
		i := bytes.Index(tag, []byte("//"))
		if i < 0 {
			return b[end+1:]
		}
		tag = s.host(tag[i+2:])
	}
}

// word takes the word that begins at i, or the link, of which it takes the host
// alone, and gives where it ends.
func (s *sketch) word(b []byte, i int) int {
	h, all := offset, byte(0)
	for ; i < len(b); i++ {
		c := classes[b[i]]
		if c.kind == 0 {
			break
		}
		all |= c.kind
		h = (h ^ uint64(c.lower)) * prime
	}
	if i+2 < len(b) && b[i] == ':' && b[i+1] == '/' && b[i+2] == '/' {
		return len(b) - len(s.host(b[i+3:]))
	}
	if all&digit == 0 {
		s.add(h)
	}
	return i
}

// host takes the host that b begins with and passes over the rest of the link.
func (s *sketch) host(b []byte) []byte {
	h, i := offset, 0
	for ; i < len(b) && (isLetter(b[i]) || isDigit(b[i]) || b[i] == '.' || b[i] == '-'); i++ {
		h = (h ^ uint64(lower(b[i]))) * prime
	}
	if i > 0 {
		s.add(h)
		s.hosts.add(h)
	}
	for i < len(b) && b[i] > ' ' && b[i] != '"' && b[i] != '\'' && b[i] != '<' && b[i] != '>' {
		i++
	}
	return b[i:]
}

// FNV-1a, 64 bits.
const (
	offset uint64 = 14695981039346656037
	prime  uint64 = 1099511628211
)

// mix spreads a hash over all bits (the finish of MurmurHash3).
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// add takes a word, and the pair that it makes with the one before: two
// features, whose bits are added to each other two by two first.
func (s *sketch) add(word uint64) {
	if s.thinly && word>>32&1 == 0 {
		return
	}
	const (
		twos   = 0x5555555555555555
		octets = 0x0303030303030303
	)
	s.exact = s.exact*prime + word
	one, two := mix(word), uint64(0)
	if s.n++; s.last != 0 && !s.thinly {
		two = mix(s.last*3 + word)
		s.n++
	}
	s.last = word
	even, odd := one&twos+two&twos, one>>1&twos+two>>1&twos
	l := &s.lanes
	l[0] += even & octets
	l[1] += odd & octets
	l[2] += even >> 2 & octets
	l[3] += odd >> 2 & octets
	l[4] += even >> 4 & octets
	l[5] += odd >> 4 & octets
	l[6] += even >> 6 & octets
	l[7] += odd >> 6 & octets
	if s.filled += 2; s.filled > 253 {
		s.empty()
	}
}

func (s *sketch) empty() {
	for i, lane := range s.lanes {
		for k := range 8 {
			s.totals[8*k+i] += int32(lane >> (8 * k) & 0xff)
		}
		s.lanes[i] = 0
	}
	s.filled = 0
}

// thin is the number of features below which only equal texts are alike.
const thin = 8

// sum has the bits that more than half of the features have, or those of the one
// text if there are few.
func (s *sketch) sum() (l uint64) {
	if s.n < thin {
		return mix(s.exact) | 1
	}
	s.empty()
	for i, n := range s.totals {
		if 2*n > s.n {
			l |= 1 << i
		}
	}
	return l | 1
}

// class is what an octet is in a word.
type class struct{ kind, lower byte }

const (
	letter byte = 1 // every octet of what is not ASCII is one
	digit  byte = 2
)

var classes = func() (t [256]class) {
	for i := range t {
		switch c := byte(i); {
		case 'a' <= c|0x20 && c|0x20 <= 'z' || c >= 0x80:
			t[i] = class{letter, lower(c)}
		case '0' <= c && c <= '9':
			t[i] = class{digit, c}
		}
	}
	return t
}()

func isLetter(c byte) bool { return classes[c].kind == letter }
func isDigit(c byte) bool  { return classes[c].kind == digit }

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}
