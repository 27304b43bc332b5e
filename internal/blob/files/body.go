package files

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"behalf/internal/blob"
)

// maxFrameBody is the largest body that Open believes of a Ref into a segment.
const maxFrameBody = 64 << 20

// smallBody is a body read whole.
type smallBody struct {
	buf    []byte // the whole frame; nil when closed
	closed bool
}

func (b *smallBody) Size() int64 { return int64(len(b.buf)) - frameHeader }

func (b *smallBody) ReadAt(p []byte, off int64) (int, error) {
	if b.closed {
		return 0, os.ErrClosed
	}
	return bytes.NewReader(b.buf[frameHeader:]).ReadAt(p, off)
}

// Close lets the memory be used again.
func (b *smallBody) Close() error {
	if b.closed {
		return os.ErrClosed
	}
	b.closed = true
	buf := b.buf
	b.buf = buf[:frameHeader:frameHeader]
	putBuffer(buf)
	return nil
}

// largeBody is a body in a file of its own.
type largeBody struct {
	*os.File
	size int64
}

func (b *largeBody) Size() int64 { return b.size }

// readFrame reads one frame and checks it against owner and ref.
func readFrame(f io.ReaderAt, owner blob.Owner, ref blob.Ref) ([]byte, error) {
	buf := getBuffer(frameHeader + int(ref.Size))
	if n, err := f.ReadAt(buf, ref.Offset); n < len(buf) {
		putBuffer(buf)
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("behind the end: %w", blob.ErrCorrupt)
		}
		return nil, err
	}
	// The header's own checksum does not matter here: owner and size are known.
	if binary.BigEndian.Uint32(buf[8:]) != bodySum(owner, buf[frameHeader:]) {
		putBuffer(buf)
		return nil, fmt.Errorf("checksum: %w", blob.ErrCorrupt)
	}
	return buf, nil
}

// sliceWriter fills a slice and refuses what is beyond its end.
type sliceWriter struct{ rest []byte }

func (w *sliceWriter) Write(p []byte) (int, error) {
	n := copy(w.rest, p)
	w.rest = w.rest[n:]
	if n < len(p) {
		return n, errors.New("the source gave more octets than its size")
	}
	return n, nil
}

// Buffers are kept by size, so that a small body does not hold a large buffer.
const (
	bufferLeast   = 12 // 4 KiB
	bufferClasses = 9  // up to 1 MiB
)

// buffers is shared by all stores of the process, as sync.Pool is meant to be.
var buffers [bufferClasses + 1]sync.Pool

// getBuffer gives n octets with any content. Sizes just over a power of two, as
// those of frames are, do not waste half of a buffer: there is room for a header.
func getBuffer(n int) []byte {
	for class := range buffers {
		if room := 1<<(bufferLeast+class) + frameHeader; n <= room {
			if b, ok := buffers[class].Get().(*[]byte); ok {
				return (*b)[:n]
			}
			return make([]byte, n, room)
		}
	}
	return make([]byte, n)
}

func putBuffer(b []byte) {
	for class := range buffers {
		if cap(b) == 1<<(bufferLeast+class)+frameHeader {
			b = b[:cap(b)]
			buffers[class].Put(&b)
			return
		}
	}
}
