package aside

import (
	"io"
	"slices"
	"sync"
	"time"
)

// outbox writes frames. Those that come while others are written wait for one
// write together. What it holds is bounded by how many requests may be in flight.
type outbox struct {
	to interface {
		io.Writer
		SetWriteDeadline(time.Time) error
	}
	limit time.Duration // of a write

	mu      sync.Mutex
	waiting []byte
	spare   []byte // what was written last, cleared: it may have held keys
	writing bool
}

// add puts a frame behind those that wait.
func (o *outbox) add(k kind, number uint64, body ...[]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	size := headSize
	for _, part := range body {
		size += len(part)
	}
	if grown := slices.Grow(o.waiting, size); cap(grown) != cap(o.waiting) {
		clear(o.waiting) // what is left behind may hold keys
		o.waiting = grown
	}
	o.waiting = appendFrame(o.waiting, k, number, body...)
}

// flush writes all that waits, unless another caller is about to.
func (o *outbox) flush() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.writing {
		return nil
	}
	o.writing = true
	defer func() { o.writing = false }()
	for len(o.waiting) > 0 {
		b := o.waiting
		o.waiting, o.spare = o.spare[:0], nil
		o.mu.Unlock()
		err := o.write(b)
		clear(b)
		o.mu.Lock()
		if o.spare = b; err != nil {
			return err
		}
	}
	return nil
}

func (o *outbox) write(b []byte) error {
	if err := o.to.SetWriteDeadline(time.Now().Add(o.limit)); err != nil {
		return err
	}
	_, err := o.to.Write(b)
	return err
}
