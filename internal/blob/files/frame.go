package files

import (
	"encoding/binary"
	"hash/crc32"

	"behalf/internal/blob"
)

// A segment begins with 16 octets, its magic and its number. Then come frames,
// one after the other, each a header of 32 octets and the body:
//
//	 0  magic
//	 4  length of the body
//	 8  CRC-32C of length, owner and body
//	12  owner
//	28  CRC-32C of the 28 octets before, seeded by the segment and the offset
//
// Numbers are big-endian. The seed keeps a frame that somebody sends as part
// of a body from being taken for one of ours when a damaged segment is searched.
const (
	segmentMagic  = "behalfb\x01"
	segmentHeader = 16
	frameMagic    = 0xb0d7f4a3
	frameHeader   = 32
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func putSegmentHeader(b []byte, number uint64) {
	copy(b, segmentMagic)
	binary.BigEndian.PutUint64(b[8:], number)
}

// bodySum is the checksum of a frame's content.
func bodySum(owner blob.Owner, body []byte) uint32 {
	var head [4 + len(owner)]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(body)))
	copy(head[4:], owner[:])
	return crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, body)
}

func headerSum(h []byte, segment uint64, offset int64) uint32 {
	var seed [16]byte
	binary.BigEndian.PutUint64(seed[:], segment)
	binary.BigEndian.PutUint64(seed[8:], uint64(offset))
	return crc32.Update(crc32.Checksum(seed[:], castagnoli), castagnoli, h[:28])
}

// fillHeader writes all of the header but what depends on the place.
func fillHeader(h []byte, owner blob.Owner, body []byte) {
	binary.BigEndian.PutUint32(h, frameMagic)
	binary.BigEndian.PutUint32(h[4:], uint32(len(body)))
	binary.BigEndian.PutUint32(h[8:], bodySum(owner, body))
	copy(h[12:28], owner[:])
}

// place completes the header for its place.
func place(h []byte, segment uint64, offset int64) {
	binary.BigEndian.PutUint32(h[28:], headerSum(h, segment, offset))
}

// frame is a parsed header.
type frame struct {
	owner  blob.Owner
	offset int64
	size   int64 // of the body
	sum    uint32
}

func (f frame) end() int64 { return f.offset + frameHeader + f.size }

// parseHeader reads a header; ok is false for anything else, or a damaged one.
func parseHeader(h []byte, segment uint64, offset int64) (f frame, ok bool) {
	if len(h) < frameHeader || binary.BigEndian.Uint32(h) != frameMagic ||
		binary.BigEndian.Uint32(h[28:]) != headerSum(h, segment, offset) {
		return frame{}, false
	}
	f = frame{offset: offset, size: int64(binary.BigEndian.Uint32(h[4:])), sum: binary.BigEndian.Uint32(h[8:])}
	copy(f.owner[:], h[12:28])
	return f, true
}
