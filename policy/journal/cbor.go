package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"behalf/internal/cbor"
)

// cborItems writes values as items of CBOR (RFC 8949) or reads them back: one
// function tells the shape of a type for both, so that what is written is what is
// read. It is by hand because a library finds its way through a type by
// reflection, which costs more than deciding about the message.
//
// While it writes, values are only looked at. The first error of reading stays;
// what is read from then on is nothing.
type cborItems struct {
	b    []byte // written so far, or still to be read
	read bool
	err  error
}

var (
	errShape = errors.New("it has another shape than expected")
	errRange = errors.New("a number is out of range")
)

func (c *cborItems) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	c.b = nil
}

// put writes the head of an item.
func (c *cborItems) put(major byte, n uint64) {
	c.b = cbor.AppendHead(c.b, major, n)
}

// get reads a head.
func (c *cborItems) get() (major byte, n uint64) {
	if len(c.b) == 0 {
		c.fail(errCut)
		return 0, 0
	}
	major, n = c.b[0]&0xe0, uint64(c.b[0]&0x1f)
	c.b = c.b[1:]
	if n < 24 {
		return major, n
	}
	size := 1 << (n - 24)
	if n > 27 || len(c.b) < size {
		c.fail(errCut)
		return 0, 0
	}
	n = 0
	for _, octet := range c.b[:size] {
		n = n<<8 | uint64(octet)
	}
	c.b = c.b[size:]
	return major, n
}

// want reads a head of one type.
func (c *cborItems) want(major byte) uint64 {
	got, n := c.get()
	if got != major && c.err == nil {
		c.fail(errShape)
		return 0
	}
	return n
}

// simple takes an item of one octet if it is next.
func (c *cborItems) simple(octet byte) bool {
	if len(c.b) == 0 || c.b[0] != octet {
		return false
	}
	c.b = c.b[1:]
	return true
}

// fields begins a struct of n fields, which is an array.
func (c *cborItems) fields(n int) {
	if !c.read {
		c.put(cbor.Array, uint64(n))
	} else if got := c.want(cbor.Array); got != uint64(n) && c.err == nil {
		c.fail(fmt.Errorf("it has %d fields instead of %d", got, n))
	}
}

func (c *cborItems) bool(v *bool) {
	switch {
	case !c.read && *v:
		c.b = append(c.b, cbor.True)
	case !c.read:
		c.b = append(c.b, cbor.False)
	default:
		*v = c.simple(cbor.True)
		if !*v && !c.simple(cbor.False) {
			c.fail(errShape)
		}
	}
}

func (c *cborItems) float(v *float64) {
	switch {
	case !c.read:
		c.b = binary.BigEndian.AppendUint64(append(c.b, cbor.Float64), math.Float64bits(*v))
	case !c.simple(cbor.Float64) || len(c.b) < 8:
		c.fail(errShape)
	default:
		*v = math.Float64frombits(binary.BigEndian.Uint64(c.b))
		c.b = c.b[8:]
	}
}

// octets is a byte string of a fixed length.
func (c *cborItems) octets(v []byte) {
	if !c.read {
		c.put(cbor.Bytes, uint64(len(v)))
		c.b = append(c.b, v...)
		return
	}
	if n := c.want(cbor.Bytes); n != uint64(len(v)) || n > uint64(len(c.b)) {
		c.fail(errShape)
		return
	}
	c.b = c.b[copy(v, c.b):]
}

// time is seconds and nanoseconds, null for the zero time. It comes back in UTC.
func (c *cborItems) time(v *time.Time) {
	if !c.read && v.IsZero() {
		c.b = append(c.b, cbor.Null)
		return
	}
	if c.read && c.simple(cbor.Null) {
		*v = time.Time{}
		return
	}
	s, ns := v.Unix(), v.Nanosecond()
	c.fields(2)
	number(c, &s)
	number(c, &ns)
	if c.read && c.err == nil {
		*v = time.Unix(s, int64(ns)).UTC()
	}
}

// labels is a map of texts, in the order of its keys; nil is null.
func (c *cborItems) labels(v *map[string]string) {
	if !c.read {
		if *v == nil {
			c.b = append(c.b, cbor.Null)
			return
		}
		c.put(cbor.Map, uint64(len(*v)))
		keys := make([]string, 0, 8) // not on the heap, as slices.Sorted would be
		for key := range *v {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			value := (*v)[key]
			text(c, &key)
			text(c, &value)
		}
		return
	}
	if c.simple(cbor.Null) {
		return
	}
	n := c.want(cbor.Map)
	*v = map[string]string{}
	for ; n > 0 && c.err == nil; n-- {
		var key, value string
		text(c, &key)
		text(c, &value)
		(*v)[key] = value
	}
}

// text need not be UTF-8, which CBOR asks of texts: messages say what they like.
func text[T ~string](c *cborItems, v *T) {
	if !c.read {
		c.put(cbor.Text, uint64(len(*v)))
		c.b = append(c.b, *v...)
		return
	}
	n := c.want(cbor.Text)
	if n > uint64(len(c.b)) {
		c.fail(errCut)
		return
	}
	*v = T(c.b[:n])
	c.b = c.b[n:]
}

func number[T ~int | ~int64 | ~uint8 | ~uint32 | ~uint64](c *cborItems, v *T) {
	if !c.read {
		if *v < 0 {
			c.put(cbor.Negint, ^uint64(*v))
		} else {
			c.put(cbor.Uint, uint64(*v))
		}
		return
	}
	major, n := c.get()
	if major == cbor.Negint {
		n = ^n
	} else if major != cbor.Uint {
		c.fail(errShape)
		return
	}
	got := T(n)
	if uint64(got) != n || (got < 0) != (major == cbor.Negint) {
		c.fail(errRange)
		return
	}
	*v = got
}

// pointer is null or what it points at.
func pointer[T any](c *cborItems, v **T, shape func(*cborItems, *T)) {
	switch {
	case !c.read && *v == nil:
		c.b = append(c.b, cbor.Null)
	case !c.read:
		shape(c, *v)
	case !c.simple(cbor.Null):
		*v = new(T)
		shape(c, *v)
	}
}

// list is an array; nil is null.
func list[T any](c *cborItems, v *[]T, shape func(*cborItems, *T)) {
	if !c.read {
		if *v == nil {
			c.b = append(c.b, cbor.Null)
			return
		}
		c.put(cbor.Array, uint64(len(*v)))
		for i := range *v {
			shape(c, &(*v)[i])
		}
		return
	}
	if c.simple(cbor.Null) {
		return
	}
	n := c.want(cbor.Array)
	if n > uint64(len(c.b)) {
		c.fail(errCut)
		return
	}
	all := make([]T, 0, min(n, 100))
	for ; n > 0 && c.err == nil; n-- {
		var one T
		shape(c, &one)
		all = append(all, one)
	}
	*v = all
}
