package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"behalf/internal/kv"
)

// A file begins with a header:
//
//	 0  magic
//	 8  number of the file
//	16  sequence number of its first record
//	24  salt, random
//	40  CRC-32C of the 40 octets before
//
// Records follow from firstRecord on, one after the other:
//
//	 0  magic
//	 4  length of the payload
//	 8  sequence number, one higher than that of the record before
//	16  CRC-32C of the payload
//	20  CRC-32C of the 20 octets before, seeded by salt, file and offset
//
// The payload is the number of tokens, each with its length, then the number of
// rows, each with a kind, the lengths of key and value, the second at which it
// expires if it is of that kind, and the two. Numbers in the payload are
// unsigned varints, others big-endian.
//
// The seed tells records from what an earlier use of the file left, and from
// what somebody sends to be stored.
const (
	fileMagic    = "behalfj\x01"
	fileHeader   = 44
	firstRecord  = 4096
	recordMagic  = 0xb7a91e5d
	recordHeader = 24
	saltSize     = 16
)

// Kinds of rows.
const (
	kindPut = iota
	kindDelete
	kindExpires
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errPayload = errors.New("a record has a good checksum and cannot be read")

// head is a file's header.
type head struct {
	file, first uint64
	salt        [saltSize]byte
}

func (h *head) encode() []byte {
	b := make([]byte, fileHeader)
	copy(b, fileMagic)
	binary.BigEndian.PutUint64(b[8:], h.file)
	binary.BigEndian.PutUint64(b[16:], h.first)
	copy(b[24:], h.salt[:])
	binary.BigEndian.PutUint32(b[40:], crc32.Checksum(b[:40], castagnoli))
	return b
}

func parseHead(b []byte) (h head, ok bool) {
	if len(b) < fileHeader || string(b[:8]) != fileMagic || binary.BigEndian.Uint32(b[40:]) != crc32.Checksum(b[:40], castagnoli) {
		return head{}, false
	}
	h.file, h.first = binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])
	copy(h.salt[:], b[24:])
	return h, true
}

// sum is the checksum of a record's header at an offset of the file.
func (h *head) sum(record []byte, offset int64) uint32 {
	var seed [saltSize + 16]byte
	copy(seed[:], h.salt[:])
	binary.BigEndian.PutUint64(seed[saltSize:], h.file)
	binary.BigEndian.PutUint64(seed[saltSize+8:], uint64(offset))
	return crc32.Update(crc32.Checksum(seed[:], castagnoli), castagnoli, record[:20])
}

// appendRecord begins a record in b, which is empty: the payload and room for
// the header.
func appendRecord(b []byte, rows []kv.Row, needs []kv.Durable) []byte {
	b = append(b, make([]byte, recordHeader)...)
	b = binary.AppendUvarint(b, uint64(len(needs)))
	for _, d := range needs {
		t := d.Token()
		b = binary.AppendUvarint(b, uint64(len(t)))
		b = append(b, t...)
	}
	b = binary.AppendUvarint(b, uint64(len(rows)))
	for i := range rows {
		b = appendRow(b, &rows[i])
	}
	return b
}

func appendRow(b []byte, r *kv.Row) []byte {
	switch {
	case r.Deleted:
		b = append(b, kindDelete)
		b = binary.AppendUvarint(b, uint64(len(r.Key)))
		return append(b, r.Key...)
	case r.Expires != 0:
		b = append(b, kindExpires)
	default:
		b = append(b, kindPut)
	}
	b = binary.AppendUvarint(b, uint64(len(r.Key)))
	b = binary.AppendUvarint(b, uint64(len(r.Value)))
	if r.Expires != 0 {
		b = binary.AppendUvarint(b, uint64(r.Expires))
	}
	b = append(b, r.Key...)
	return append(b, r.Value...)
}

// seal completes a record for its place.
func (h *head) seal(b []byte, seq uint64, offset int64) {
	binary.BigEndian.PutUint32(b, recordMagic)
	binary.BigEndian.PutUint32(b[4:], uint32(len(b)-recordHeader))
	binary.BigEndian.PutUint64(b[8:], seq)
	binary.BigEndian.PutUint32(b[16:], crc32.Checksum(b[recordHeader:], castagnoli))
	binary.BigEndian.PutUint32(b[20:], h.sum(b, offset))
}

// isRecord reports whether the header of a record of this file is at the offset.
func (h *head) isRecord(file []byte, offset int64) bool {
	if offset+recordHeader > int64(len(file)) {
		return false
	}
	b := file[offset:]
	return binary.BigEndian.Uint32(b) == recordMagic && binary.BigEndian.Uint32(b[20:]) == h.sum(b, offset)
}

// record gives the payload of the record at the offset and where it ends; ok is
// false if there is none, or not all of it.
func (h *head) record(file []byte, offset int64) (seq uint64, payload []byte, end int64, ok bool) {
	if !h.isRecord(file, offset) {
		return 0, nil, 0, false
	}
	b := file[offset:]
	end = offset + recordHeader + int64(binary.BigEndian.Uint32(b[4:]))
	if end > int64(len(file)) {
		return 0, nil, 0, false
	}
	payload = file[offset+recordHeader : end]
	if binary.BigEndian.Uint32(b[16:]) != crc32.Checksum(payload, castagnoli) {
		return 0, nil, 0, false
	}
	return binary.BigEndian.Uint64(b[8:]), payload, end, true
}

// parsePayload reads a payload; the rows keep nothing of it.
func parsePayload(b []byte) (rows []kv.Row, tokens [][]byte, err error) {
	d := decoder{rest: b}
	for range d.count(1) {
		tokens = append(tokens, d.bytes(d.number()))
	}
	n := d.count(2)
	rows = make([]kv.Row, 0, n)
	for range n {
		rows = append(rows, d.row())
	}
	if d.bad || len(d.rest) > 0 {
		return nil, nil, fmt.Errorf("journal: %w", errPayload)
	}
	return rows, tokens, nil
}

// decoder reads a payload; after an error it reads nothing.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) row() kv.Row {
	kind := d.bytes(1)
	if d.bad {
		return kv.Row{}
	}
	klen := d.number()
	if kind[0] == kindDelete {
		return kv.Row{Key: clone(d.bytes(klen)), Deleted: true}
	}
	vlen := d.number()
	var r kv.Row
	if kind[0] == kindExpires {
		r.Expires = int64(d.number())
	} else if kind[0] != kindPut {
		d.bad = true
	}
	if klen > kv.MaxKey || vlen > kv.MaxValue {
		d.bad = true
		return kv.Row{}
	}
	both := clone(d.bytes(klen + vlen))
	if d.bad {
		return kv.Row{}
	}
	r.Key, r.Value = both[:klen:klen], both[klen:]
	return r
}

func clone(b []byte) []byte { return append(make([]byte, 0, len(b)), b...) }

// count reads how many follow, each of at least so many octets.
func (d *decoder) count(least int) uint64 {
	n := d.number()
	if n > uint64(len(d.rest)/least) {
		d.bad = true
		return 0
	}
	return n
}

func (d *decoder) number() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.bad, d.rest = true, nil
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}
