package spool

import (
	"encoding/binary"
	"errors"
	"fmt"

	"behalf/internal/blob"
)

// head is what a message has once: it stands before the first recipients, so
// that most settles read and write one row. Times are in milliseconds.
//
// It is read and written by the committer for every settle, which is why it is
// a row of varints and not CBOR: a tenth of the time.
type head struct {
	Body     blob.Ref
	Gone     bool  // the body was dropped
	Total    int   // recipients
	Tally    tally // how many recipients are in each shown state
	Base     int64 // when it was first due: accepted or not-before
	Expires  int64
	Told     int       // delays that were told
	Done     int64     // when the last recipient became final
	Timer    int64     // the row in the timer index, 0: none
	What     TimerKind // of that row
	Releases []release
	Events   []byte // numbers, each as its distance to the one before
}

// release says when the first held recipient of a chunk frees itself.
type release struct {
	Chunk int
	At    int64
}

func (h *head) chunks() int { return (h.Total + chunkSize - 1) / chunkSize }

// headVersion begins every head.
const headVersion = 1

// append writes the head behind b.
func (h *head) append(b []byte) []byte {
	gone := byte(0)
	if h.Gone {
		gone = 1
	}
	b = append(b, headVersion, gone, byte(h.What))
	put := func(n int64) { b = binary.AppendUvarint(b, uint64(n)) }
	put(int64(h.Body.Segment))
	put(h.Body.Offset)
	put(h.Body.Size)
	put(int64(h.Total))
	for _, n := range h.Tally {
		put(n)
	}
	put(h.Base)
	put(h.Expires)
	put(int64(h.Told))
	put(h.Done)
	put(h.Timer)
	put(int64(len(h.Releases)))
	for _, r := range h.Releases {
		put(int64(r.Chunk))
		put(r.At)
	}
	put(int64(len(h.Events)))
	return append(b, h.Events...)
}

var errHead = errors.New("spool: a damaged head")

// decodeHead reads a head and gives what stands behind it: the first
// recipients, encoded. Both are parts of b, and so are the head's events.
func decodeHead(b []byte) (h head, rest []byte, err error) {
	if len(b) < 3 || b[0] != headVersion || b[1] > 1 {
		return head{}, nil, errHead
	}
	h.Gone, h.What = b[1] == 1, TimerKind(b[2])
	b = b[3:]
	get := func() int64 {
		n, size := binary.Uvarint(b)
		if size <= 0 {
			err, b = errHead, nil
			return 0
		}
		b = b[size:]
		return int64(n)
	}
	h.Body = blob.Ref{Segment: uint64(get()), Offset: get(), Size: get()}
	h.Total = int(get())
	for i := range h.Tally {
		h.Tally[i] = get()
	}
	h.Base, h.Expires, h.Told, h.Done, h.Timer = get(), get(), int(get()), get(), get()
	if h.Total < 1 || h.Total > MaxRecipients || h.Told < 0 {
		return head{}, nil, errors.Join(errHead, fmt.Errorf("%d recipients", h.Total))
	}
	n := get()
	if n < 0 || n > int64(h.chunks()) {
		return head{}, nil, errHead
	}
	for range n {
		h.Releases = append(h.Releases, release{int(get()), get()})
	}
	n = get()
	if err != nil || n < 0 || n > int64(len(b)) {
		return head{}, nil, errHead
	}
	h.Events = b[:n:n]
	return h, b[n:], nil
}

// The timeline keeps the first numbers of a message and the last ones.
const (
	keepFirst = 50
	keepLast  = 450
)

// addEvent appends a number to an encoded list of them and drops from the
// middle what is too much.
func addEvent(list []byte, seq uint64) []byte {
	var last uint64
	at, n := 0, 0
	for ; at < len(list); n++ {
		d, size := binary.Uvarint(list[at:])
		if size <= 0 {
			break
		}
		at, last = at+size, last+d
	}
	list = binary.AppendUvarint(list[:at], seq-last)
	if n < keepFirst+keepLast {
		return list
	}
	return cutEvents(list)
}

func cutEvents(list []byte) []byte {
	all := eventNumbers(list)
	over := len(all) - keepFirst - keepLast
	all = append(all[:keepFirst], all[keepFirst+over:]...)
	out := make([]byte, 0, len(list)+8)
	var last uint64
	for _, n := range all {
		out = binary.AppendUvarint(out, n-last)
		last = n
	}
	return out
}

// eventNumbers reads an encoded list, up to the first flaw.
func eventNumbers(list []byte) []uint64 {
	var all []uint64
	var last uint64
	for len(list) > 0 {
		d, n := binary.Uvarint(list)
		if n <= 0 {
			break
		}
		list, last = list[n:], last+d
		all = append(all, last)
	}
	return all
}
