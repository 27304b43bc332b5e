package spool

import (
	"errors"
	"fmt"
	"io"
	"os"

	"behalf/internal/blob"
)

// Draft gathers the body of a message that comes in: in pooled memory while it
// is small and the common budget lasts, then in a temporary file that has no
// name. It is used by one goroutine at a time. After a successful Put it is
// empty; else the caller ends it with Discard.
type Draft struct {
	pool    *buffers
	largest int64
	dir     string
	buf     *buffer
	file    *os.File
	size    int64
	coming  int64 // the least to make room for
	ended   bool
}

var errDraftEnded = errors.New("spool: the draft was discarded")

var _ blob.Source = (*Draft)(nil)

// Draft begins a body.
func (s *Spool) Draft() *Draft {
	return &Draft{pool: s.buffers, largest: s.o.MemoryDraft, dir: s.o.TempDir}
}

// expectMost bounds what is believed of a size that somebody only said.
const expectMost = 160 << 10

// Expect says how large the body will be, as far as known: there is room for
// all of it from the first octet on, and nothing is copied as it grows, while
// much of the common budget is left.
func (d *Draft) Expect(size int64) {
	if size <= min(expectMost, d.largest) {
		d.coming = size
	}
}

// Write adds to the body.
func (d *Draft) Write(p []byte) (int, error) {
	if d.ended {
		return 0, errDraftEnded
	}
	if d.file == nil && !d.grow(len(p)) {
		if err := d.spill(); err != nil {
			return 0, err
		}
	}
	if d.file == nil {
		d.buf.b = append(d.buf.b, p...)
		d.size += int64(len(p))
		return len(p), nil
	}
	n, err := d.file.Write(p)
	d.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("spool: write draft: %w", err)
	}
	return n, nil
}

// grow makes room for n more bytes in memory, if that may be had.
func (d *Draft) grow(n int) bool {
	need := d.size + int64(n)
	if d.buf != nil && need <= int64(cap(d.buf.b)) {
		return true
	}
	if need > d.largest {
		return false
	}
	room := need
	if d.pool.roomy() { // who only says a size shall not keep it from others
		room = max(need, d.coming)
	}
	larger := d.pool.get(int(room))
	if larger == nil {
		return false
	}
	if d.buf != nil {
		larger.b = append(larger.b, d.buf.b...)
		d.buf.put()
	}
	d.buf = larger
	return true
}

// spill moves the body into a temporary file, which is unlinked at once so
// that a crash leaves nothing behind.
func (d *Draft) spill() error {
	f, err := os.CreateTemp(d.dir, "behalf-draft-*")
	if err != nil {
		return fmt.Errorf("spool: draft: %w", err)
	}
	if err = os.Remove(f.Name()); err == nil && d.buf != nil {
		_, err = f.Write(d.buf.b)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("spool: draft: %w", err)
	}
	d.buf.put()
	d.buf, d.file = nil, f
	return nil
}

// Size is how many bytes were written.
func (d *Draft) Size() int64 { return d.size }

// Bytes is the body if it is in memory. It is valid until the draft is put or
// discarded, or written to again.
func (d *Draft) Bytes() ([]byte, bool) {
	if d.ended || d.file != nil {
		return nil, false
	}
	if d.buf == nil {
		return nil, true
	}
	return d.buf.b, true
}

// ReadAt reads what was written.
func (d *Draft) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case d.ended:
		return 0, errDraftEnded
	case off < 0:
		return 0, errors.New("spool: read of a draft at a negative offset")
	case off >= d.size:
		return 0, io.EOF
	case d.file != nil:
		return d.file.ReadAt(p, off)
	}
	n := copy(p, d.buf.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteTo writes the whole body to w; it can be called again.
func (d *Draft) WriteTo(w io.Writer) (int64, error) {
	if d.ended {
		return 0, errDraftEnded
	}
	if b, ok := d.Bytes(); ok {
		n, err := w.Write(b)
		return int64(n), err
	}
	return io.Copy(w, io.NewSectionReader(d.file, 0, d.size))
}

// Discard ends the draft and gives back what it holds. It may be called again,
// and after Put.
func (d *Draft) Discard() {
	d.buf.put()
	if d.file != nil {
		d.file.Close()
	}
	d.buf, d.file, d.ended = nil, nil, true
}

// hand gives the memory of the draft away, for a young body.
func (d *Draft) hand() *buffer {
	b := d.buf
	d.buf = nil
	d.Discard()
	return b
}
