package limit

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"testing"
)

// TestTable plays random puts, removals and sweeps against a table whose keys
// meet often, and against a map.
func TestTable(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 1))
		tab, want, changed := newTable(leastSize), map[Key]int64{}, map[Key]bool{}
		const most = 500
		for step := range 8000 {
			var k Key
			k[1] = byte(r.IntN(3))
			binary.BigEndian.PutUint32(k[8:], uint32(r.IntN(40))<<27) // few homes, some at the very end
			k[15] = byte(r.IntN(40))
			switch n := r.IntN(10); {
			case n < 7:
				if !tab.room(most) {
					if _, known := tab.find(k); !known {
						continue
					}
				}
				tat := int64(1 + r.IntN(1000))
				tab.put(k, tat, true)
				want[k], changed[k] = tat, true
			case n < 9:
				if i, ok := tab.find(k); ok {
					tab.remove(i)
				}
				delete(want, k)
				delete(changed, k)
			case step%50 == 0:
				now := int64(r.IntN(400))
				if removed, had := tab.sweep(now), len(want); true {
					maps.DeleteFunc(want, func(k Key, tat int64) bool { return tat <= now })
					maps.DeleteFunc(changed, func(k Key, _ bool) bool { _, ok := want[k]; return !ok })
					if removed != had-len(want) {
						t.Fatalf("seed %d: %d swept, want %d", seed, removed, had-len(want))
					}
				}
			case step%70 == 0:
				rows := tab.take(1+r.IntN(100), nil)
				for _, row := range rows {
					if !changed[row.key] || row.tat != want[row.key] {
						t.Fatalf("seed %d: took %v, which is %d, changed %t", seed, row, want[row.key], changed[row.key])
					}
					delete(changed, row.key)
				}
			}
			if tab.n != len(want) {
				t.Fatalf("seed %d, step %d: %d keys, want %d", seed, step, tab.n, len(want))
			}
		}
		for k, tat := range want {
			if got := tab.tat(k); got != tat || tat < tab.low {
				t.Fatalf("seed %d: %x is %d, want %d; the lowest is %d", seed, k, got, tat, tab.low)
			}
		}
		if n := len(tab.take(1<<20, nil)); n != len(changed) {
			t.Fatalf("seed %d: %d changed, want %d", seed, n, len(changed))
		}
		if n := len(tab.take(1<<20, nil)); n != 0 {
			t.Fatalf("seed %d: %d changed since nothing was done", seed, n)
		}
	}
}

// TestNoneIsForgottenInVain: while a bucket is full again, it is what makes room.
func TestNoneIsForgottenInVain(t *testing.T) {
	s := shard{table: newTable(leastSize)}
	const most = 400
	key := func(i int) Key { return KeyOf("k", string(rune(i))) }
	for i := range most {
		tat := int64(1_000_000)
		if i == 123 {
			tat = 10 // the only one that is full by now
		}
		s.makeRoom(key(i), most, 20)
		s.put(key(i), tat, true)
		if i == most-2 && s.n != most-1 {
			t.Fatalf("%d keys", s.n)
		}
	}
	if n := s.makeRoom(key(most), most, 20); n != 0 || s.n != most-1 || s.tat(key(123)) != 0 {
		t.Errorf("%d dropped in vain, %d left", n, s.n)
	}
	s.put(key(most), 5_000_000, true)
	if n := s.makeRoom(key(most+1), most, 20); n != 1 || s.n != most-1 || s.tat(key(most)) == 0 {
		t.Errorf("%d dropped, %d left; the one that is farthest from full went", n, s.n)
	}
}
