package habit

import "slices"

// Text is what a message says, as far as it tells messages apart.
type Text struct {
	Like  Likeness
	Hosts Hosts // of its links
	Whole bool  // all of its text was looked at
}

// The fingerprint of how a message begins is of so many octets of its first text.
// What comes after and in its other texts is the rest, if it is not little.
const (
	headMost  = 2 << 10
	restLeast = 1 << 10
)

// TextOf is that of a subject and the texts, plain or HTML, which whole says are
// all that the message has. Letter case, numbers, mark-up and all of a link but
// its host are left out, so that the same template to many people is alike.
func TextOf(subject string, whole bool, texts ...[]byte) Text {
	t := Text{Whole: whole}
	head := sketch{hosts: &t.Hosts}
	head.text([]byte(subject))
	var first []byte
	if len(texts) > 0 {
		first, texts = texts[0], texts[1:]
	}
	cut := len(first)
	if cut > headMost+restLeast {
		cut = headMost
	}
	head.text(first[:cut])
	t.Like.Head = head.sum()
	t.Like.Rest = t.Like.Head
	rest := sketch{hosts: &t.Hosts}
	closely := headMost
	closely -= rest.some(first[cut:], closely)
	for _, more := range texts {
		closely -= rest.some(more, closely)
	}
	if rest.n >= thin {
		rest.text([]byte(subject))
		t.Like.Rest = rest.sum()
	}
	return t
}

// some takes a text, of which what comes after so many octets is not looked at
// closely, and gives how many were.
func (s *sketch) some(text []byte, closely int) int {
	n := min(closely, len(text))
	s.text(text[:n])
	s.thinly = true
	s.text(text[n:])
	s.thinly = false
	return n
}

// hostsMost is how many hosts of a message are told apart.
const hostsMost = 16

// Hosts are hashes of the hosts of links, each once. The zero value has none.
type Hosts struct {
	list [hostsMost]uint32
	n    int
	over bool // there are more
}

func (h *Hosts) add(hash uint64) {
	v := uint32(mix(hash)) | 1
	switch {
	case h == nil || slices.Contains(h.list[:h.n], v):
	case h.n == len(h.list):
		h.over = true
	default:
		h.list[h.n] = v
		h.n++
	}
}

func (h *Hosts) all() []uint32 { return h.list[:h.n] }
