package spool

import (
	"encoding/binary"
	"math"
	"strings"
	"time"

	"behalf/internal/cbor"
)

// record writes values as items of CBOR (RFC 8949), or reads them back: one
// function tells the shape of a type for both, in shapes.go. Structs are maps
// from small numbers, in ascending order; what is nothing is left out.
//
// It is by hand because a library finds its way through a type by reflection,
// which costs three times as much. It reads what it writes and no more: anything
// else (a field of a later version, say) makes it odd, and the library reads
// the row again. So a record is never wrong about a row, only slow.
type record struct {
	b    []byte // written so far
	s    string // the row to be read; the strings that are read are parts of it
	at   int    // how much of it was read
	left int    // fields of the present struct: written so far, or still to be read
	read bool
	odd  bool // reading: the row has another form
}

// give makes a record odd: nothing more is read.
func (r *record) give() { r.odd, r.at, r.left = true, len(r.s), 0 }

// next is the first octet of the next item; at the end, one that begins none.
func (r *record) next() byte {
	if r.at < len(r.s) {
		return r.s[r.at]
	}
	return 0xff
}

// put writes the head of an item.
func (r *record) put(major byte, n uint64) {
	r.b = cbor.AppendHead(r.b, major, n)
}

// get reads the head of an item of one major type.
func (r *record) get(major byte) uint64 {
	n := uint64(r.next() - major)
	if n < 24 {
		r.at++
		return n
	}
	size := 1 << (n & 3)
	if n > 27 || len(r.s)-r.at <= size {
		r.give()
		return 0
	}
	r.at++
	return r.big(size)
}

// big reads a number of some octets, which are there.
func (r *record) big(size int) uint64 {
	var n uint64
	for _, c := range []byte(r.s[r.at : r.at+size]) {
		n = n<<8 | uint64(c)
	}
	r.at += size
	return n
}

// simple takes an item of one octet if it is next.
func (r *record) simple(octet byte) bool {
	if r.next() != octet {
		return false
	}
	r.at++
	return true
}

// begin opens a struct. What it gives belongs to end.
func (r *record) begin() (at, outer int) {
	at, outer = len(r.b), r.left
	if !r.read {
		r.b, r.left = append(r.b, 0), 0
		return at, outer
	}
	n := r.get(cbor.Map)
	if n > 31 {
		r.give()
		return at, outer
	}
	r.left = int(n)
	return at, outer
}

// end closes it.
func (r *record) end(at, outer int) {
	switch n := r.left; {
	case r.read && n != 0:
		r.give() // a field that is not known here
		return
	case r.read:
	case n < 24:
		r.b[at] = cbor.Map | byte(n)
	default: // two octets for the head after all
		r.b = append(r.b, 0)
		copy(r.b[at+2:], r.b[at+1:])
		r.b[at], r.b[at+1] = cbor.Map|24, byte(n)
	}
	if r.left = outer; r.odd {
		r.left = 0
	}
}

// field begins a field: it writes its number, or tells whether it comes next.
func (r *record) field(key byte) bool {
	switch {
	case !r.read:
		r.left++
		r.put(cbor.Uint, uint64(key))
		return true
	case r.left == 0:
		return false
	case key < 24:
		if r.next() != key {
			return false
		}
		r.at++
	default:
		if r.next() != 24 || len(r.s)-r.at < 2 || r.s[r.at+1] != key {
			return false
		}
		r.at += 2
	}
	r.left--
	return true
}

// wants begins a field that is left out when it is nothing.
func (r *record) wants(key byte, something bool) bool {
	return (r.read || something) && r.field(key)
}

// must and may say of a field whether it is written though it is nothing.
const (
	must = true
	may  = false
)

func text[S ~string](r *record, key byte, keep bool, v *S) {
	if r.wants(key, keep || *v != "") {
		textItem(r, v)
	}
}

func textItem[S ~string](r *record, v *S) {
	if r.read {
		*v = S(r.cut(r.get(cbor.Text)))
		return
	}
	r.put(cbor.Text, uint64(len(*v)))
	r.b = append(r.b, *v...)
}

// cut takes the next n octets.
func (r *record) cut(n uint64) string {
	if n > uint64(len(r.s)-r.at) {
		r.give()
		return ""
	}
	from := r.at
	r.at += int(n)
	return r.s[from:r.at]
}

func (r *record) flag(key byte, keep bool, v *bool) {
	switch {
	case !r.wants(key, keep || *v):
	case !r.read && *v:
		r.b = append(r.b, cbor.True)
	case !r.read:
		r.b = append(r.b, cbor.False)
	default:
		if *v = r.simple(cbor.True); !*v && !r.simple(cbor.False) {
			r.give()
		}
	}
}

func number[N ~int | ~int64 | ~uint8 | ~uint32 | ~uint64](r *record, key byte, keep bool, v *N) {
	if r.wants(key, keep || *v != 0) {
		numberItem(r, v)
	}
}

func numberItem[N ~int | ~int64 | ~uint8 | ~uint32 | ~uint64](r *record, v *N) {
	switch {
	case r.read:
		n := r.integer()
		if *v = N(n); int64(*v) != n || *v < 0 != (n < 0) {
			r.give()
		}
	case *v < 0:
		r.put(cbor.Negint, uint64(-(int64(*v) + 1)))
	default:
		r.put(cbor.Uint, uint64(*v))
	}
}

// integer reads a number that fits.
func (r *record) integer() int64 {
	major, flip := byte(cbor.Uint), int64(0)
	if r.next()&0xe0 == cbor.Negint {
		major, flip = cbor.Negint, -1
	}
	n := r.get(major)
	if n > math.MaxInt64 {
		r.give()
		return 0
	}
	return int64(n) ^ flip
}

func (r *record) float(key byte, v *float64) {
	switch {
	case !r.field(key):
	case !r.read:
		r.b = binary.BigEndian.AppendUint64(append(r.b, cbor.Float64), math.Float64bits(*v))
	default:
		*v = r.float64()
	}
}

func (r *record) float64() float64 {
	if !r.simple(cbor.Float64) || len(r.s)-r.at < 8 {
		r.give()
		return 0
	}
	return math.Float64frombits(r.big(8))
}

// fixed is a byte string of a fixed length.
func (r *record) fixed(key byte, v []byte) {
	switch {
	case !r.field(key):
	case !r.read:
		r.put(cbor.Bytes, uint64(len(v)))
		r.b = append(r.b, v...)
	case r.get(cbor.Bytes) != uint64(len(v)):
		r.give()
	default:
		copy(v, r.cut(uint64(len(v))))
	}
}

// octets is a byte string; nil stays nil.
func (r *record) octets(key byte, v *[]byte) {
	switch {
	case !r.field(key):
	case r.read && r.simple(cbor.Null):
	case r.read:
		*v = []byte(r.cut(r.get(cbor.Bytes)))
	case *v == nil:
		r.b = append(r.b, cbor.Null)
	default:
		r.put(cbor.Bytes, uint64(len(*v)))
		r.b = append(r.b, *v...)
	}
}

// time is a moment to the microsecond: whole seconds as a number, else a
// float64; the zero time is null.
func (r *record) time(key byte, keep bool, v *time.Time) {
	switch {
	case !r.wants(key, keep || !v.IsZero()):
	case r.read:
		*v = r.moment()
	case v.IsZero():
		r.b = append(r.b, cbor.Null)
	default:
		t := v.Round(time.Microsecond)
		sec, nsec := t.Unix(), t.Nanosecond()
		if nsec == 0 {
			numberItem(r, &sec)
			return
		}
		f := float64(sec) + float64(nsec)/1e9
		r.b = binary.BigEndian.AppendUint64(append(r.b, cbor.Float64), math.Float64bits(f))
	}
}

// The moments that are read here; others are left to the library.
const (
	firstSecond = 0
	lastSecond  = 1 << 36
)

func (r *record) moment() time.Time {
	var t time.Time
	switch {
	case r.simple(cbor.Null):
		return t
	case r.next() == cbor.Float64:
		f := r.float64()
		if !(f >= firstSecond && f <= lastSecond) {
			r.give()
			return t
		}
		sec, part := math.Modf(f)
		t = time.Unix(int64(sec), int64(part*1e9)).Round(time.Microsecond)
	default:
		n := r.integer()
		if n < firstSecond || n > lastSecond {
			r.give()
			return t
		}
		t = time.Unix(n, 0)
	}
	return t.UTC()
}

// list is an array; nil stays nil. item tells the shape of one element.
func list[T any](r *record, key byte, keep bool, v *[]T, item func(*record, *T)) {
	if r.wants(key, keep || len(*v) > 0) {
		listItems(r, v, item)
	}
}

func listItems[T any](r *record, v *[]T, item func(*record, *T)) {
	switch {
	case r.read && r.simple(cbor.Null):
		return
	case r.read:
		n := r.get(cbor.Array)
		if n > uint64(len(r.s)-r.at) { // an item has an octet at least
			r.give()
			return
		}
		if *v != nil && n <= uint64(cap(*v)) { // room that was given
			*v = (*v)[:n]
			clear(*v)
		} else {
			*v = make([]T, n)
		}
	case *v == nil:
		r.b = append(r.b, cbor.Null)
		return
	default:
		r.put(cbor.Array, uint64(len(*v)))
	}
	for i := range *v {
		if item(r, &(*v)[i]); r.odd {
			return
		}
	}
}

// pairs is a map of texts.
func (r *record) pairs(key byte, v *map[string]string) {
	if !r.wants(key, len(*v) > 0) {
		return
	}
	if !r.read {
		r.put(cbor.Map, uint64(len(*v)))
		for k, s := range *v {
			textItem(r, &k)
			textItem(r, &s)
		}
		return
	}
	n := r.get(cbor.Map)
	if n > uint64(len(r.s)-r.at)/2 {
		r.give()
		return
	}
	*v = make(map[string]string, n)
	for range n {
		var k, s string
		textItem(r, &k)
		textItem(r, &s)
		(*v)[k] = s
	}
	if len(*v) != int(n) {
		r.give() // one came twice
	}
}

// optional is a struct that may be missing.
func optional[T any](r *record, key byte, v **T, shape func(*record, *T)) {
	if !r.wants(key, *v != nil) {
		return
	}
	if r.read {
		*v = new(T)
	}
	shape(r, *v)
}

// reader begins to read a row, of which it makes a copy.
func reader(row []byte) record { return record{s: string(row), read: true} }

// ended reports whether the whole row was read, and all of it understood.
func (r *record) ended() bool { return !r.odd && r.at == len(r.s) }

// apart makes *v independent of the row it was read from: it is kept longer.
// Recipients of one row that say the same share it.
func apart[S ~string](v *S, last S) {
	if *v == last {
		*v = last
		return
	}
	*v = S(strings.Clone(string(*v)))
}
