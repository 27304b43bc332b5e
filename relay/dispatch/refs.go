package dispatch

import "behalf/mail"

// refs is a line of references, in a ring that grows: every step at either end
// costs the same however long it is. An empty one keeps no memory.
type refs struct {
	ring  []ref // its length is a power of two
	first int
	n     int
}

func (l *refs) len() int { return l.n }

// at is the reference of that place; 0 is the front.
func (l *refs) at(i int) *ref { return &l.ring[(l.first+i)&(len(l.ring)-1)] }

func (l *refs) pushBack(r ref) {
	l.grow()
	l.n++
	*l.at(l.n - 1) = r
}

func (l *refs) pushFront(r ref) {
	l.grow()
	l.n++
	l.first = (l.first - 1) & (len(l.ring) - 1)
	l.ring[l.first] = r
}

// popFront takes the front off; there must be one.
func (l *refs) popFront() ref {
	r := l.ring[l.first]
	l.ring[l.first] = ref{}
	l.first = (l.first + 1) & (len(l.ring) - 1)
	if l.n--; l.n == 0 {
		*l = refs{}
	}
	return r
}

func (l *refs) grow() {
	if l.n < len(l.ring) {
		return
	}
	ring := make([]ref, max(1, 2*len(l.ring)))
	for i := range l.n {
		ring[i] = *l.at(i)
	}
	l.ring, l.first = ring, 0
}

// has reports whether an entry of the due index is among them.
func (l *refs) has(id mail.ID, chunk int) bool {
	for i := range l.n {
		if l.at(i).same(id, chunk) {
			return true
		}
	}
	return false
}
