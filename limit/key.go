package limit

import (
	"crypto/sha256"
	"encoding/binary"
)

// Key stands for what a limit counts by: half a SHA-256, so that no tenant can
// find a key that meets another's, and none learns from the store who mailed
// whom.
type Key [16]byte

// KeyOf is the key of a list of names; different lists never have the same.
func KeyOf(parts ...string) Key {
	var space [256]byte
	b := space[:0]
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	sum := sha256.Sum256(b)
	return Key(sum[:16])
}

func (k Key) shard() int { return int(k[0]) % shardCount }

// home is where a key is looked for first in a table of n slots.
func (k Key) home(n int) int {
	return int(uint64(binary.BigEndian.Uint32(k[8:])) * uint64(n) >> 32)
}

// mark is what the table keeps of a key beside its slot: a few bits, so that
// most others are told from it without a look at them.
func (k Key) mark() uint8 { return used | k[1]&fragment }

// apart is a key that is k's and no other list's; it lives in the same shard.
func (k Key) apart(n uint8) Key {
	k[15] ^= n
	return k
}
