package kv

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"time"
)

// Row is one change that a commit makes to one key. Engines keep its slices.
type Row struct {
	Key, Value []byte
	Expires    int64 // Unix second at which the row is gone; 0: never
	Deleted    bool
	New        bool // the key was not there before this change
}

// Gone reports whether the row is deleted or has outlived its life.
func (r *Row) Gone() bool {
	return r.Deleted || r.Expires != 0 && r.Expires <= time.Now().Unix()
}

// rowOverhead is what a row costs beside its key and value, in bytes; no less
// than what any engine reckons.
const rowOverhead = 32

func (r *Row) size() int64 { return int64(len(r.Key)+len(r.Value)) + rowOverhead }

// indexFrom is how many rows are searched one by one before an index pays.
const indexFrom = 12

// sharedRoom is how many octets of rows are allocated at once.
const sharedRoom = 4 << 10

// keepRows is the largest set whose room is used again.
const keepRows = 4096

// rows is a set of rows, one a key, in the order in which they were first set.
type rows struct {
	list  []Row
	index map[uint64]int // of the list by a hash of the key, or the next number free; empty while the list is short
	seed  maphash.Seed   // of the index
	bytes int64
}

func (s *rows) find(key []byte) *Row {
	if s == nil {
		return nil
	}
	if len(s.index) > 0 {
		for h := maphash.Bytes(s.seed, key); ; h++ {
			i, ok := s.index[h]
			if !ok {
				return nil
			}
			if bytes.Equal(s.list[i].Key, key) {
				return &s.list[i]
			}
		}
	}
	for i := len(s.list) - 1; i >= 0; i-- {
		if bytes.Equal(s.list[i].Key, key) {
			return &s.list[i]
		}
	}
	return nil
}

func (s *rows) set(r Row) {
	if old := s.find(r.Key); old != nil {
		s.bytes += r.size() - old.size()
		r.New = old.New // what was there before both of them
		*old = r
		return
	}
	s.list = append(s.list, r)
	s.bytes += r.size()
	if len(s.index) > 0 {
		s.enter(len(s.list) - 1)
	} else if len(s.list) > indexFrom {
		if s.index == nil {
			s.index, s.seed = make(map[uint64]int, 4*indexFrom), maphash.MakeSeed()
		}
		for i := range s.list {
			s.enter(i)
		}
	}
}

// enter puts a row of the list into the index, which has none of its key.
func (s *rows) enter(i int) {
	h := maphash.Bytes(s.seed, s.list[i].Key)
	for {
		if _, taken := s.index[h]; !taken {
			s.index[h] = i
			return
		}
		h++
	}
}

func (s *rows) merge(from *rows) {
	for _, r := range from.list {
		s.set(r)
	}
}

// reset empties the set and keeps its room, if it is not much.
func (s *rows) reset() {
	if cap(s.list) > keepRows {
		*s = rows{}
		return
	}
	clear(s.list)
	clear(s.index)
	s.list, s.bytes = s.list[:0], 0
}

// overlay is the Writer of one function: its own writes over those of the
// batch, over those being synced, over the engine.
type overlay struct {
	own    rows
	batch  *rows
	synced *rows // being synced; may be nil
	base   Base
	limits *Limits
	needs  []Durable
	room   []byte // for rows, not yet given to any
	err    error  // the first refusal; it fails the function even if ignored
	used   bool   // false once the function returned
}

func (o *overlay) Get(key []byte) ([]byte, error) {
	if !o.used {
		return nil, errStale
	}
	for _, set := range [...]*rows{&o.own, o.batch, o.synced} {
		if r := set.find(key); r != nil {
			if r.Gone() {
				return nil, ErrNotFound
			}
			return r.Value, nil
		}
	}
	if len(key) == 0 || len(key) > MaxKey {
		return nil, ErrNotFound
	}
	return o.base.Get(key)
}

func (o *overlay) Put(key, value []byte) error { return o.set(key, value, Row{}) }

func (o *overlay) PutNew(key, value []byte) error { return o.set(key, value, Row{New: true}) }

func (o *overlay) Delete(key []byte) error { return o.set(key, nil, Row{Deleted: true}) }

func (o *overlay) Needs(d Durable) {
	switch {
	case !o.used || o.err != nil:
	case len(d.Token()) > MaxToken:
		_ = o.refuse(fmt.Errorf("kv: a token of %d bytes is over %d", len(d.Token()), MaxToken))
	default:
		o.needs = append(o.needs, d)
	}
}

func (o *overlay) PutFor(key, value []byte, life time.Duration) error {
	if life <= 0 {
		return o.refuse(fmt.Errorf("kv: put %q for %v: a life must be longer than nothing", key, life))
	}
	end := time.Now().Add(life + time.Second - 1).Unix() // never shorter than asked
	return o.set(key, value, Row{Expires: end})
}

func (o *overlay) set(key, value []byte, r Row) error {
	switch {
	case !o.used:
		return errStale
	case o.err != nil:
		return o.err
	case len(key) == 0 || len(key) > MaxKey:
		return o.refuse(fmt.Errorf("kv: a key has 1 to %d bytes, not %d", MaxKey, len(key)))
	case o.limits.reserved(key):
		return o.refuse(fmt.Errorf("kv: %q is a key of the engine's own", key))
	case len(value) > MaxValue:
		return o.refuse(fmt.Errorf("kv: a value of %d bytes is over %d: %w", len(value), MaxValue, ErrTooBig))
	}
	buf := o.take(len(key) + len(value)) // the caller may use its slices again
	copy(buf, key)
	copy(buf[len(key):], value)
	r.Key, r.Value = buf[:len(key):len(key)], buf[len(key):len(buf):len(buf)]
	o.own.set(r)
	if !o.limits.fits(len(o.own.list), o.own.bytes) {
		return o.refuse(ErrTooBig)
	}
	return nil
}

// take gives room for a row: a piece of some that is shared by rows which are
// written, and so forgotten, about the same time.
func (o *overlay) take(n int) []byte {
	if n > sharedRoom/4 {
		return make([]byte, n)
	}
	if n > len(o.room) {
		o.room = make([]byte, sharedRoom)
	}
	buf := o.room[:n]
	o.room = o.room[n:]
	return buf
}

func (o *overlay) refuse(err error) error {
	o.err = err
	return err
}

func (o *overlay) reset() {
	o.own.reset()
	clear(o.needs)
	o.needs = o.needs[:0]
}
