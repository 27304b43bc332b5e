package limit

import (
	"math"
	"math/bits"
)

// row is one key with its arrival time.
type row struct {
	key Key
	tat int64
}

// table is the open-addressed map of one shard from keys to arrival times: 25
// octets a slot and at most a fifth of the slots empty when it is full. What
// changed is known by a bit of each slot, and by a bit for each block of slots
// that has some, so that finding it costs what changed and not what exists.
type table struct {
	marks []uint8
	rows  []row
	n     int
	// changed has a bit for each block of slots; it may be set in vain, never
	// missing.
	changed []uint64
	low     int64 // no arrival time is below it
}

// A mark is zero for an empty slot.
const (
	used     = 0x80 // there is a key
	dirty    = 0x40 // the store does not have this arrival time
	fragment = 0x3f // bits of the key
)

const (
	block     = 64
	leastSize = 16
)

// slots is how many slots n keys need.
func slots(n int) int { return n + n/4 + 1 }

func newTable(size int) table {
	return table{marks: make([]uint8, size), rows: make([]row, size),
		changed: make([]uint64, (size+block*64-1)/(block*64)), low: math.MaxInt64}
}

// find gives the slot of a key, or the empty slot in which it would be.
func (t *table) find(k Key) (slot int, found bool) {
	m := k.mark()
	for i := k.home(len(t.marks)); ; {
		switch have := t.marks[i]; {
		case have == 0:
			return i, false
		case have&^dirty == m && t.rows[i].key == k:
			return i, true
		}
		if i++; i == len(t.marks) {
			i = 0
		}
	}
}

// tat is the arrival time of a key; zero if it is not there.
func (t *table) tat(k Key) int64 {
	if t.n == 0 {
		return 0
	}
	if i, ok := t.find(k); ok {
		return t.rows[i].tat
	}
	return 0
}

// put sets the arrival time of a key. There must be room for one more: see
// reserve.
func (t *table) put(k Key, tat int64, isDirty bool) {
	i, found := t.find(k)
	if !found {
		t.n++
		t.rows[i].key, t.marks[i] = k, k.mark()
	}
	t.rows[i].tat = tat
	t.low = min(t.low, tat)
	if isDirty {
		t.touch(i)
	}
}

// touch notes that a slot changed.
func (t *table) touch(i int) {
	t.marks[i] |= dirty
	t.changed[i/block/64] |= 1 << (i / block % 64)
}

// room makes the table larger if one more key needs it, up to most keys; ok is
// false when it is full.
func (t *table) room(most int) (ok bool) {
	if t.n >= most {
		return false
	}
	if slots(t.n+1) <= len(t.marks) {
		return true
	}
	t.resize(min(max(2*len(t.marks), leastSize), slots(most)))
	return true
}

func (t *table) resize(size int) {
	old := *t
	*t = newTable(size)
	for i, m := range old.marks {
		if m != 0 {
			t.put(old.rows[i].key, old.rows[i].tat, m&dirty != 0)
		}
	}
}

// remove empties a slot and closes the gap: the keys after it that would not be
// found any more move up.
func (t *table) remove(gap int) {
	t.n--
	size := len(t.marks)
	for i := gap; ; {
		if i++; i == size {
			i = 0
		}
		if t.marks[i] == 0 {
			break
		}
		// It may move if its home is not between the gap and itself.
		if home := t.rows[i].key.home(size); (i-home+size)%size < (i-gap+size)%size {
			continue
		}
		t.rows[gap], t.marks[gap] = t.rows[i], t.marks[i]
		if t.marks[gap]&dirty != 0 {
			t.touch(gap)
		}
		gap = i
	}
	t.marks[gap] = 0
}

// sweep removes every key whose bucket is full again. It costs nothing while
// there can be none.
func (t *table) sweep(now int64) (removed int) {
	if t.low > now {
		return 0
	}
	for i := 0; i < len(t.marks); {
		if t.marks[i] != 0 && t.rows[i].tat <= now {
			t.remove(i) // which may bring another key here
			removed++
			continue
		}
		i++
	}
	t.low = math.MaxInt64
	for i, m := range t.marks {
		if m != 0 {
			t.low = min(t.low, t.rows[i].tat)
		}
	}
	if len(t.marks) > 4*leastSize && slots(t.n)*8 < len(t.marks) {
		t.resize(max(leastSize, slots(2*t.n)))
	}
	return removed
}

// evict removes, of some keys around the home of k, the one that is full again
// the soonest.
func (t *table) evict(k Key) {
	const sample = 64
	victim, seen := -1, 0
	for i := k.home(len(t.marks)); seen < sample && seen < t.n; {
		if t.marks[i] != 0 {
			seen++
			if victim < 0 || t.rows[i].tat < t.rows[victim].tat {
				victim = i
			}
		}
		if i++; i == len(t.marks) {
			i = 0
		}
	}
	t.remove(victim)
}

// take appends up to n of the keys that changed, and takes them for unchanged.
func (t *table) take(n int, rows []row) []row {
	for w := range t.changed {
		for t.changed[w] != 0 {
			b := bits.TrailingZeros64(t.changed[w])
			from := (w*64 + b) * block
			for i := from; i < min(from+block, len(t.marks)); i++ {
				if t.marks[i]&dirty == 0 {
					continue
				}
				if len(rows) == n {
					return rows
				}
				t.marks[i] &^= dirty
				rows = append(rows, t.rows[i])
			}
			t.changed[w] &^= 1 << b
		}
	}
	return rows
}
