package files

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"behalf/internal/blob"
)

const (
	maxGroup      = 512     // frames in one write
	maxGroupBytes = 8 << 20 // and their octets, about
)

// writer is the goroutine that appends to the current segment and syncs it for
// all that wait.
type writer struct {
	store *Store
	queue chan *appending
	done  chan struct{}
	sync  func(*os.File) error // fdatasync

	intake sync.RWMutex
	closed bool

	// The goroutine's own.
	group []*appending
	seg   *segment // nil: none is begun
	file  *os.File
	end   int64

	syncs atomic.Int64
}

// States of an appending.
const (
	waiting int32 = iota
	started
	dropped
)

// appending is one frame that waits to be written.
type appending struct {
	buf   []byte
	ref   blob.Ref
	state atomic.Int32
	reply chan error
}

func newWriter(s *Store) *writer {
	w := &writer{store: s, queue: make(chan *appending, maxGroup), done: make(chan struct{}), sync: fdatasync}
	go w.run()
	return w
}

// append writes a frame and returns when it is stable. It takes buf over.
func (w *writer) append(ctx context.Context, buf []byte) (blob.Ref, error) {
	a := &appending{buf: buf, reply: make(chan error, 1)}
	if err := w.enqueue(ctx, a); err != nil {
		putBuffer(buf)
		return blob.Ref{}, err
	}
	select {
	case err := <-a.reply:
		return a.ref, err
	case <-ctx.Done():
		if a.state.CompareAndSwap(waiting, dropped) {
			return blob.Ref{}, ctx.Err()
		}
		err := <-a.reply
		return a.ref, err
	}
}

func (w *writer) enqueue(ctx context.Context, a *appending) error {
	w.intake.RLock()
	defer w.intake.RUnlock()
	if w.closed {
		return ErrClosed
	}
	select {
	case w.queue <- a:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close writes what is queued and ends the goroutine.
func (w *writer) close() error {
	w.intake.Lock()
	w.closed = true
	w.intake.Unlock()
	close(w.queue)
	<-w.done
	if w.file == nil {
		return nil
	}
	return w.file.Close()
}

func (w *writer) run() {
	defer close(w.done)
	for a := range w.queue {
		w.gather(a)
		err := w.writeGroup()
		for _, a := range w.group {
			a.reply <- err
			putBuffer(a.buf)
		}
		clear(w.group)
		w.group = w.group[:0]
	}
	if w.seg != nil {
		w.store.seal(w.seg, w.end)
	}
}

// gather collects a and all that wait.
func (w *writer) gather(a *appending) {
	size := w.join(a)
	yielded := false
	for len(w.group) < maxGroup && size < maxGroupBytes {
		select {
		case a, ok := <-w.queue:
			if !ok {
				return
			}
			size += w.join(a)
		default:
			if yielded {
				return
			}
			yielded = true // let those come along who were answered a moment ago
			runtime.Gosched()
		}
	}
}

func (w *writer) join(a *appending) int {
	if !a.state.CompareAndSwap(waiting, started) {
		putBuffer(a.buf)
		return 0
	}
	w.group = append(w.group, a)
	return len(a.buf)
}

// writeGroup appends the group and syncs it. Nothing of it is acknowledged if
// that fails.
func (w *writer) writeGroup() error {
	if len(w.group) == 0 {
		return nil
	}
	if w.seg != nil && w.end >= w.store.opts.SegmentSize {
		w.abandon()
	}
	if w.seg == nil {
		seg, f, err := w.store.createSegment()
		if err != nil {
			return err
		}
		w.seg, w.file, w.end = seg, f, segmentHeader
	}
	end := w.placeGroup()
	if err := w.writeAll(); err != nil {
		w.takeBack(err)
		return err
	}
	w.syncs.Add(1)
	if err := w.sync(w.file); err != nil {
		// The kernel may have dropped the dirty pages: a second sync of this
		// file would lie.
		w.store.opts.Log.Error("a segment of bodies cannot be synced; a new one is begun", "segment", w.seg.number, "error", err)
		w.abandon()
		return err
	}
	w.end = end
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	for _, a := range w.group {
		w.seg.add(a.ref)
	}
	return nil
}

func fdatasync(f *os.File) error {
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}

// placeGroup gives each frame its place and returns the end of the last.
func (w *writer) placeGroup() int64 {
	end := w.end
	for _, a := range w.group {
		a.ref = blob.Ref{Segment: w.seg.number, Offset: end, Size: int64(binary.BigEndian.Uint32(a.buf[4:]))}
		place(a.buf, w.seg.number, end)
		end += int64(len(a.buf))
	}
	return end
}

// writeAll writes the group at the end of the segment.
func (w *writer) writeAll() error {
	vec := make([][]byte, len(w.group))
	for i, a := range w.group {
		vec[i] = a.buf
	}
	for at := w.end; len(vec) > 0; {
		n, err := unix.Pwritev(int(w.file.Fd()), vec, at)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "write", Path: w.file.Name(), Err: err}
		}
		at += int64(n)
		for len(vec) > 0 && n >= len(vec[0]) {
			n -= len(vec[0])
			vec = vec[1:]
		}
		if len(vec) > 0 {
			vec[0] = vec[0][n:]
		}
	}
	return nil
}

// takeBack removes what a failed write left. For want of room the segment is
// still good; after any other error a new one is begun.
func (w *writer) takeBack(err error) {
	if noSpace(err) && w.file.Truncate(w.end) == nil {
		return
	}
	w.store.opts.Log.Error("a segment of bodies cannot be written; a new one is begun", "segment", w.seg.number, "error", err)
	w.abandon()
}

// abandon seals the segment; the next group begins a new one.
func (w *writer) abandon() {
	w.store.seal(w.seg, w.end)
	_ = w.file.Close() // all that was acknowledged is synced
	w.seg, w.file = nil, nil
}
