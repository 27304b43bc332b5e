package files

import (
	"context"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"behalf/internal/fsync"
)

// What may be written and not yet on its way to the disk.
const (
	maxGroup      = 512     // frames
	maxGroupBytes = 8 << 20 // and their octets, about
)

const (
	// aheadBy is how many octets of zeros are written at once where frames will be.
	aheadBy = 256 << 10
	// aheadOf is the largest frame that they are written for.
	aheadOf = 32 << 10
)

// writer appends to the current segment. Whoever brings a frame writes it, one
// after the other; one goroutine syncs what was written for all who brought it,
// and begins with what came meanwhile as soon as it is done.
type writer struct {
	store *Store
	sync  func(*os.File) error // fdatasync
	zeros []byte
	wake  chan struct{} // there is something to sync
	done  chan struct{} // the goroutine is gone

	mu     sync.Mutex
	closed bool
	out    *output       // nil: none is begun
	groups []*group      // whose sync has not begun, oldest first
	frames int           // in them
	octets int           // in them
	room   chan struct{} // closed when there is room; nil: nobody waits

	syncs atomic.Int64
}

// output is a segment while it is written. After a sync that failed nothing in
// it that was not synced before is ever told to be stable: the kernel may have
// dropped the dirty pages, and a second sync of the file would lie.
type output struct {
	seg  *segment
	file *os.File
	end  int64 // of the last frame; under writer.mu
	size int64 // of the file; behind end are zeros
	bare bool  // no zeros are written ahead: once they could not be
	err  error // of the sync; the syncing goroutine's
}

// group is frames of one segment that are synced at once.
type group struct {
	out    *output
	frames int
	octets int
	last   bool  // nothing more is written to the segment
	end    int64 // of its last frame, then
	done   chan struct{}
	err    error // set before done is closed
}

func newWriter(s *Store) *writer {
	w := &writer{store: s, sync: fsync.Data, zeros: make([]byte, aheadBy), wake: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run()
	return w
}

// append writes a frame, whose sync begins by itself. It takes buf over.
func (w *writer) append(ctx context.Context, buf []byte) (*pending, error) {
	defer putBuffer(buf)
	if err := w.lock(ctx); err != nil {
		return nil, err
	}
	p, err := w.write(buf)
	w.mu.Unlock()
	w.nudge()
	return p, err
}

// lock takes mu once there is room for a frame.
func (w *writer) lock(ctx context.Context) error {
	w.mu.Lock()
	for !w.closed && (w.frames >= maxGroup || w.octets >= maxGroupBytes) {
		if w.room == nil {
			w.room = make(chan struct{})
		}
		room := w.room
		w.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
		w.mu.Lock()
	}
	if w.closed {
		w.mu.Unlock()
		return ErrClosed
	}
	return nil
}

// write appends a frame to the segment. It counts as alive from now on, so that
// Reclaim does not drop the segment before anybody could own it.
func (w *writer) write(buf []byte) (*pending, error) {
	if w.out != nil && w.out.end >= w.store.opts.SegmentSize {
		w.retire()
	}
	if w.out == nil {
		seg, f, err := w.store.createSegment()
		if err != nil {
			return nil, err
		}
		w.out = &output{seg: seg, file: f, end: segmentHeader, size: segmentHeader}
	}
	out := w.out
	w.ahead(out, len(buf))
	place(buf, out.seg.number, out.end)
	if _, err := out.file.WriteAt(buf, out.end); err != nil {
		w.takeBack(err)
		return nil, err
	}
	g := w.open()
	g.frames++
	g.octets += len(buf)
	w.frames++
	w.octets += len(buf)
	p := newPending(g, buf, out.seg.number, out.end)
	out.end += int64(len(buf))
	out.size = max(out.size, out.end)
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	out.seg.add(p.ref)
	return p, nil
}

// ahead writes zeros where the next frame of n octets, and those after it, will
// be: a sync that neither makes a file longer nor gives it blocks writes nothing
// but the frames. Should it not succeed, frames are appended as they are.
func (w *writer) ahead(out *output, n int) {
	room := min(w.store.opts.SegmentSize-out.size, aheadBy)
	if out.bare || n > aheadOf || out.end+int64(n) <= out.size || room < int64(n) {
		return
	}
	if _, err := out.file.WriteAt(w.zeros[:room], out.size); err != nil {
		out.bare = true
		_ = out.file.Truncate(out.size) // the room is the frame's
		return
	}
	out.size += room
}

// open gives the group of the segment whose sync has not begun.
func (w *writer) open() *group {
	if n := len(w.groups); n > 0 && w.groups[n-1].out == w.out {
		return w.groups[n-1]
	}
	g := &group{out: w.out, done: make(chan struct{})}
	w.groups = append(w.groups, g)
	return g
}

// takeBack removes what a failed write left. For want of room the segment is
// still good; after any other error a new one is begun.
func (w *writer) takeBack(err error) {
	if noSpace(err) && w.out.file.Truncate(w.out.end) == nil {
		w.out.size = w.out.end
		return
	}
	w.store.opts.Log.Error("a segment of bodies cannot be written; a new one is begun", "segment", w.out.seg.number, "error", err)
	w.retire()
}

// retire seals the segment; the next frame begins a new one. The file is closed
// once what is in it was synced.
func (w *writer) retire() {
	w.store.seal(w.out.seg, w.out.end)
	g := w.open()
	g.last, g.end = true, w.out.end
	w.out = nil
}

// close syncs what was written and ends the goroutine.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	if w.out != nil {
		w.retire()
	}
	w.makeRoom()
	w.mu.Unlock()
	w.nudge()
	<-w.done
}

func (w *writer) makeRoom() {
	if w.room != nil {
		close(w.room)
		w.room = nil
	}
}

// nudge tells the goroutine that there may be something to sync.
func (w *writer) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *writer) run() {
	defer close(w.done)
	for {
		g, closed := w.take()
		switch {
		case g != nil:
			w.settle(g)
		case closed:
			return
		default:
			<-w.wake
			runtime.Gosched() // let those come along who are about to write
		}
	}
}

// take gives the oldest group, or nil.
func (w *writer) take() (g *group, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.groups) == 0 {
		return nil, w.closed
	}
	g = w.groups[0]
	w.groups = slices.Delete(w.groups, 0, 1)
	w.frames -= g.frames
	w.octets -= g.octets
	w.makeRoom()
	return g, w.closed
}

// settle syncs a group and tells those who wait for it.
func (w *writer) settle(g *group) {
	out := g.out
	if g.frames > 0 && out.err == nil {
		w.syncs.Add(1)
		if out.err = w.sync(out.file); out.err != nil {
			w.failed(out)
		}
	}
	if g.last {
		_ = out.file.Truncate(g.end) // zeros do no harm
		_ = out.file.Close()         // all that is told to be stable is synced
	}
	g.err = out.err
	close(g.done)
}

// failed abandons a segment that could not be synced.
func (w *writer) failed(out *output) {
	w.store.opts.Log.Error("a segment of bodies cannot be synced; a new one is begun", "segment", out.seg.number, "error", out.err)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out == out {
		w.retire()
	}
}
