package aside

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A frame is the length of what follows it (4 octets, the first is the highest),
// a kind (1), a number (8) and a body.
type frame struct {
	kind   kind
	number uint64
	body   []byte
}

type kind byte

const (
	// To the helper.
	kindKey  kind = 'K' // number: the key's; body: the key in PKCS #1. No answer
	kindSign kind = 'S' // number: the request's; body: the key's number, and a SHA-256

	// From the helper, first of all.
	kindHello     kind = 'h' // number: protocol; body: what signs
	kindNoLibrary kind = 'n' // number: protocol; body: why

	// From the helper, with the number of the request.
	kindSignature kind = 's' // body: the signature
	kindRefused   kind = 'r' // body: why
	kindUnknown   kind = 'u' // the key is to be handed over again
)

// protocol is the number of this form of frames.
const protocol = 1

const (
	lengthSize = 4
	headSize   = lengthSize + 1 + 8
	// maxFrame is more than a key of 4096 bits takes, about 2,350 octets.
	maxFrame = 4096
)

var errTooLong = fmt.Errorf("a frame of more than %d octets", maxFrame)

// appendFrame writes a frame whose body is of several parts.
func appendFrame(b []byte, k kind, number uint64, body ...[]byte) []byte {
	n := headSize - lengthSize
	for _, part := range body {
		n += len(part)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = append(b, byte(k))
	b = binary.BigEndian.AppendUint64(b, number)
	for _, part := range body {
		b = append(b, part...)
	}
	return b
}

// parseFrame reads a frame at the start of b, and gives its size there; 0 if b
// ends before the frame does. The body is a part of b.
func parseFrame(b []byte) (f frame, size int, err error) {
	if len(b) < lengthSize {
		return f, 0, nil
	}
	n := binary.BigEndian.Uint32(b)
	switch {
	case n > maxFrame-lengthSize:
		return f, 0, errTooLong
	case n < headSize-lengthSize:
		return f, 0, fmt.Errorf("a frame of %d octets", lengthSize+n)
	}
	size = lengthSize + int(n)
	if len(b) < size {
		return f, 0, nil
	}
	return frame{kind(b[lengthSize]), binary.BigEndian.Uint64(b[lengthSize+1:]), b[headSize:size]}, size, nil
}

// frames reads frames. Its buffer is all the memory that the other side can take.
type frames struct {
	from       io.Reader
	buf        [8 * maxFrame]byte
	start, end int
}

// next gives the next frame, whose body is good until the call after. What ends
// between frames gives io.EOF.
func (r *frames) next() (frame, error) {
	for {
		f, size, err := parseFrame(r.buf[r.start:r.end])
		if err != nil {
			return frame{}, err
		}
		if size > 0 {
			r.start += size
			return f, nil
		}
		if err := r.fill(); err != nil {
			return frame{}, err
		}
	}
}

// fill reads what there is. The rest of a frame is moved to the front, where the
// largest has room; it may be of a key, so that nothing is left behind.
func (r *frames) fill() error {
	moved := copy(r.buf[:], r.buf[r.start:r.end])
	clear(r.buf[max(moved, r.start):r.end])
	r.start, r.end = 0, moved
	n, err := r.from.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil
	}
	if errors.Is(err, io.EOF) && r.end > 0 {
		return io.ErrUnexpectedEOF
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}
