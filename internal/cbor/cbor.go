// Package cbor has what items of CBOR (RFC 8949) begin with, for those who write
// records by hand because a library finds its way through a type by reflection.
package cbor

import (
	"encoding/binary"
	"math"
)

// Major types, in the upper three bits of an item's first octet (section 3.1).
const (
	Uint   = 0 << 5
	Negint = 1 << 5
	Bytes  = 2 << 5
	Text   = 3 << 5
	Array  = 4 << 5
	Map    = 5 << 5
)

// Simple values, and the first octet of a float64 (section 3.3).
const (
	False     = 0xf4
	True      = 0xf5
	Null      = 0xf6
	Undefined = 0xf7
	Float64   = 0xfb
)

// AppendHead appends the head of an item: its major type with a number, which is
// its value or how long it is, in as few octets as can be.
func AppendHead(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= math.MaxUint8:
		return append(b, major|24, byte(n))
	case n <= math.MaxUint16:
		return append(b, major|25, byte(n>>8), byte(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	default:
		return binary.BigEndian.AppendUint64(append(b, major|27), n)
	}
}
