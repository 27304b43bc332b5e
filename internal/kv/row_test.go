package kv

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"testing"
)

// Keys whose hashes meet are told apart.
func TestRowsWhoseHashesMeet(t *testing.T) {
	var s rows
	key := func(i int) []byte { return fmt.Appendf(nil, "key %d", i) }
	for i := range 2 * indexFrom {
		s.set(Row{Key: key(i)})
	}
	late := key(1000)
	h := maphash.Bytes(s.seed, late)
	s.index[h], s.index[h+1] = 3, 4 // as if theirs were the same
	if r := s.find(late); r != nil {
		t.Errorf("%q is found under another's hash", r.Key)
	}
	s.set(Row{Key: late, Value: []byte("one")})
	s.set(Row{Key: late, Value: []byte("two")})
	if r := s.find(late); r == nil || string(r.Value) != "two" || s.index[h+2] != len(s.list)-1 {
		t.Errorf("behind two others it is %v, at %d of %d", r, s.index[h+2], len(s.list))
	}
}

// Rows share room, and none of it with one another.
func TestRowsShareRoom(t *testing.T) {
	o := overlay{limits: &Limits{Rows: 1000, Bytes: 1 << 30}, used: true}
	sizes := []int{0, 1, 100, sharedRoom/4 - 2, sharedRoom/4 - 1, sharedRoom / 4, sharedRoom, 10 * sharedRoom}
	for round := range 20 {
		for i, n := range sizes {
			value := bytes.Repeat([]byte{byte(round*len(sizes) + i)}, n)
			if err := o.Put([]byte{byte(round), byte(i)}, value); err != nil {
				t.Fatal(err)
			}
			clear(value) // the caller's
		}
	}
	for round := range 20 {
		for i, n := range sizes {
			want := bytes.Repeat([]byte{byte(round*len(sizes) + i)}, n)
			r := o.own.find([]byte{byte(round), byte(i)})
			if r == nil || !bytes.Equal(r.Value, want) {
				t.Fatalf("row %d of round %d is not what was put", i, round)
			}
			if cap(r.Value) > n && n < sharedRoom/4 {
				t.Fatalf("row %d of round %d can grow into the next", i, round)
			}
		}
	}
}
