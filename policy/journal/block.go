package journal

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/zstd"

	"behalf/internal/keyring"
)

// A block is a header and what it describes, sealed. The header is part of what
// the seal vouches for.
//
//	0  magic, 4 octets        8  octets sealed, u32   20 first time, i64
//	4  version, u8           12  octets plain, u32    28 last time, i64
//	5  zero, 3 octets        16  entries, u32         36 CRC-32C of the above
const (
	blockHeader  = 40
	blockVersion = 1
	// maxPlain bounds what a block holds: one entry beyond its usual size.
	maxPlain  = blockSize + maxEntry + 16
	maxSealed = maxPlain + maxPlain/8 + 1024
)

var (
	magic  = [4]byte{0xb5, 'P', 'I', 'J'}
	errCut = errors.New("it ends before it is complete")
)

// header describes a block. Times are nanoseconds since 1970, the earliest and
// latest of its entries.
type header struct {
	version       uint8
	sealed, plain uint32
	entries       uint32
	first, last   int64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (h *header) bytes() []byte {
	b := make([]byte, 0, blockHeader)
	b = append(b, magic[:]...)
	b = append(b, h.version, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, h.sealed)
	b = binary.BigEndian.AppendUint32(b, h.plain)
	b = binary.BigEndian.AppendUint32(b, h.entries)
	b = binary.BigEndian.AppendUint64(b, uint64(h.first))
	b = binary.BigEndian.AppendUint64(b, uint64(h.last))
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// parseHeader reads a header; false when b does not begin with a whole one.
func parseHeader(b []byte) (header, bool) {
	if len(b) < blockHeader || [4]byte(b[:4]) != magic ||
		binary.BigEndian.Uint32(b[36:]) != crc32.Checksum(b[:36], castagnoli) {
		return header{}, false
	}
	return header{
		version: b[4], sealed: binary.BigEndian.Uint32(b[8:]), plain: binary.BigEndian.Uint32(b[12:]), entries: binary.BigEndian.Uint32(b[16:]),
		first: int64(binary.BigEndian.Uint64(b[20:])), last: int64(binary.BigEndian.Uint64(b[28:])),
	}, true
}

// place names a block for the seal. The size of the sealed value is not known
// when it is sealed, and needs no vouching.
func (h header) place() string {
	h.sealed = 0
	return hex.EncodeToString(h.bytes()[4:36])
}

const sealRecord = "policy inputs"

// block is entries that are not yet written.
type block struct {
	b           []byte // of each entry its length, uvarint, and itself
	entries     int
	first, last int64
}

func (b *block) add(head, asks []byte, at int64) {
	if b.entries == 0 || at < b.first {
		b.first = at
	}
	if b.entries == 0 || at > b.last {
		b.last = at
	}
	b.b = binary.AppendUvarint(b.b, uint64(len(head)+len(asks)))
	b.b = append(append(b.b, head...), asks...)
	b.entries++
}

// seal gives the block as it is written; packed is what it holds, compressed.
func (b *block) seal(keys *keyring.Keyring, packed []byte) ([]byte, error) {
	h := header{version: blockVersion, plain: uint32(len(b.b)), entries: uint32(b.entries), first: b.first, last: b.last}
	sealed, err := keys.Seal(0, sealRecord, h.place(), packed)
	if err != nil {
		return nil, fmt.Errorf("sealing recorded policy inputs: %w", err)
	}
	h.sealed = uint32(len(sealed))
	return append(h.bytes(), sealed...), nil
}

// open gives back the entries of a block.
func (h header) open(keys *keyring.Keyring, z *zstd.Decoder, sealed []byte) ([][]byte, error) {
	packed, err := keys.Open(0, sealRecord, h.place(), sealed)
	if err != nil {
		return nil, err
	}
	plain, err := z.DecodeAll(packed, make([]byte, 0, h.plain))
	if err != nil {
		return nil, fmt.Errorf("unpacking: %w", err)
	}
	if len(plain) != int(h.plain) {
		return nil, fmt.Errorf("it holds %d octets instead of %d", len(plain), h.plain)
	}
	var all [][]byte
	for len(plain) > 0 {
		n, used := binary.Uvarint(plain)
		if used <= 0 || n > uint64(len(plain)-used) {
			return nil, errCut
		}
		all = append(all, plain[used:used+int(n)])
		plain = plain[used+int(n):]
	}
	if len(all) != int(h.entries) {
		return nil, fmt.Errorf("it holds %d entries instead of %d", len(all), h.entries)
	}
	return all, nil
}
