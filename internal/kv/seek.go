package kv

import "bytes"

// First gives the key at or after which an upward scan of r begins.
func First(r Range) []byte {
	if bytes.Compare(r.From, r.Prefix) > 0 {
		return r.From
	}
	return r.Prefix
}

// Last gives the key at or before which a downward scan of r begins. No key of
// at most MaxKey bytes with the prefix lies above it.
func Last(r Range) []byte {
	end := make([]byte, MaxKey+1)
	for i := copy(end, r.Prefix); i < len(end); i++ {
		end[i] = 0xff
	}
	if r.From != nil && bytes.Compare(r.From, end) < 0 {
		return r.From
	}
	return end
}
