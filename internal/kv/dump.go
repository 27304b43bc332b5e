package kv

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

// dumpMagic begins a dump; the last octet is the version of the format.
const dumpMagic = "behalf-kv\x00\x01"

// ErrDump is returned for a dump that is damaged or not complete.
var ErrDump = errors.New("kv: the backup is damaged or not complete")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// DumpWriter writes the format in which all engines back up: the magic, then
// for each live row a 1, the lengths of key and value, the second at which it
// expires and the two, then a 0, the number of rows and the CRC-32C of all
// before it. Numbers are unsigned varints, the checksum four octets, big-endian.
type DumpWriter struct {
	w    *bufio.Writer
	sum  hash.Hash32
	rows uint64
	head []byte
}

// NewDumpWriter begins a dump on w.
func NewDumpWriter(w io.Writer) (*DumpWriter, error) {
	sum := crc32.New(castagnoli)
	d := &DumpWriter{w: bufio.NewWriterSize(io.MultiWriter(w, sum), 64<<10), sum: sum}
	_, err := d.w.WriteString(dumpMagic)
	return d, err
}

// Put writes one row.
func (d *DumpWriter) Put(r Row) error {
	h := append(d.head[:0], 1)
	h = binary.AppendUvarint(h, uint64(len(r.Key)))
	h = binary.AppendUvarint(h, uint64(len(r.Value)))
	h = binary.AppendUvarint(h, uint64(r.Expires))
	d.head = h
	d.rows++
	_, err := d.w.Write(h)
	if err == nil {
		_, err = d.w.Write(r.Key)
	}
	if err == nil {
		_, err = d.w.Write(r.Value)
	}
	return err
}

// Finish ends the dump. Without it the dump is refused by ReadDump.
func (d *DumpWriter) Finish() error {
	if _, err := d.w.Write(binary.AppendUvarint([]byte{0}, d.rows)); err != nil {
		return err
	}
	if err := d.w.Flush(); err != nil {
		return err
	}
	if _, err := d.w.Write(binary.BigEndian.AppendUint32(nil, d.sum.Sum32())); err != nil {
		return err
	}
	return d.w.Flush()
}

// ReadDump calls fn for each row of a dump; the row is fn's to keep. What fn
// did is only to be trusted when ReadDump returns nil.
func ReadDump(r io.Reader, fn func(Row) error) error {
	d := &dumpReader{r: bufio.NewReaderSize(r, 64<<10), sum: crc32.New(castagnoli)}
	magic := d.bytes(uint64(len(dumpMagic)))
	if d.err == nil && string(magic) != dumpMagic {
		return fmt.Errorf("%w: it does not begin like one", ErrDump)
	}
	var count uint64
	for d.octet() == 1 && d.err == nil {
		klen, vlen, expires := d.number(), d.number(), d.number()
		if klen > MaxKey || vlen > MaxValue {
			return fmt.Errorf("%w: row %d is too large", ErrDump, count)
		}
		row := Row{Key: d.bytes(klen), Value: d.bytes(vlen), Expires: int64(expires)}
		if d.err != nil {
			break
		}
		count++
		if err := fn(row); err != nil {
			return err
		}
	}
	want := d.number()
	sum := d.sum.Sum32()
	tail := d.bytes(4)
	switch {
	case d.err != nil:
		return fmt.Errorf("%w: after %d rows: %w", ErrDump, count, d.err)
	case want != count || binary.BigEndian.Uint32(tail) != sum:
		return fmt.Errorf("%w: count or checksum differ after %d rows", ErrDump, count)
	}
	return nil
}

// dumpReader reads and sums; after an error it reads zeros.
type dumpReader struct {
	r   *bufio.Reader
	sum hash.Hash32
	err error
}

func (d *dumpReader) bytes(n uint64) []byte {
	b := make([]byte, n)
	if d.err != nil {
		return b
	}
	if _, err := io.ReadFull(d.r, b); err != nil {
		d.err = io.ErrUnexpectedEOF
		return b
	}
	_, _ = d.sum.Write(b)
	return b
}

func (d *dumpReader) octet() byte { return d.bytes(1)[0] }

func (d *dumpReader) ReadByte() (byte, error) {
	b := d.octet()
	return b, d.err
}

func (d *dumpReader) number() uint64 {
	n, err := binary.ReadUvarint(d)
	if err != nil && d.err == nil {
		d.err = err
	}
	return n
}
