package files

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"behalf/internal/blob"
	"behalf/internal/fsync"
)

// segment is what is known of a segment file, all under Store.mu.
type segment struct {
	number uint64
	sealed time.Time // zero: it is being written
	size   int64     // of the file, when sealed

	// How much lives. While young is there, exactly: each frame that was put
	// and not deleted. Later only by octets, which is a hint: before a segment
	// is touched, its frames are asked for one by one.
	young   *ledger
	counted bool
	live    int64
	stuck   bool      // a frame that lives cannot be read: the file is kept
	moved   time.Time // all that lives was moved away at this time
}

// ledger is the frames of a segment that was written by this process.
type ledger struct {
	offsets []uint32 // ascending
	dead    []uint64 // bits
	alive   int
}

func (l *ledger) add(offset int64) {
	if len(l.offsets)%64 == 0 {
		l.dead = append(l.dead, 0)
	}
	l.offsets = append(l.offsets, uint32(offset))
	l.alive++
}

func (l *ledger) drop(offset int64) {
	i, there := slices.BinarySearch(l.offsets, uint32(offset))
	if there && !l.isDead(i) {
		l.dead[i/64] |= 1 << (i % 64)
		l.alive--
	}
}

func (l *ledger) isDead(i int) bool { return l.dead[i/64]&(1<<(i%64)) != 0 }

func (g *segment) add(ref blob.Ref) {
	g.live += frameHeader + ref.Size
	g.young.add(ref.Offset)
}

func (g *segment) drop(ref blob.Ref) {
	g.live -= frameHeader + ref.Size
	if g.young != nil {
		g.young.drop(ref.Offset)
	}
}

func (s *Store) segmentPath(number uint64) string {
	return filepath.Join(s.segmentDir(), fmt.Sprintf("%016x.seg", number))
}

// findSegments takes note of the segments of earlier processes. What lives in
// them is counted by and by in Reclaim.
func (s *Store) findSegments() error {
	entries, err := os.ReadDir(s.segmentDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".seg")
		number, err := strconv.ParseUint(name, 16, 64)
		if !ok || err != nil || number == 0 {
			s.opts.Log.Warn("a file among the segments of bodies is not one", "file", e.Name())
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		s.segments[number] = &segment{number: number, sealed: info.ModTime(), size: info.Size()}
	}
	return nil
}

// highest gives the largest number in use. That segment is never removed, so
// that its number is not used again.
func (s *Store) highest() uint64 {
	var n uint64
	for number := range s.segments {
		n = max(n, number)
	}
	return n
}

// createSegment makes the next segment; its name is durable.
func (s *Store) createSegment() (*segment, *os.File, error) {
	s.mu.Lock()
	number := s.highest() + 1
	s.mu.Unlock()
	f, err := os.OpenFile(s.segmentPath(number), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	var head [segmentHeader]byte
	putSegmentHeader(head[:], number)
	if _, err = f.WriteAt(head[:], 0); err == nil {
		err = fsync.Path(s.segmentDir())
	}
	if err != nil { // no Ref was given to it, so its number may be used again
		return nil, nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	seg := &segment{number: number, young: &ledger{}, counted: true}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments[number] = seg
	return seg, f, nil
}

func (s *Store) seal(seg *segment, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.sealed, seg.size = time.Now(), size
}

// walker visits the frames of a segment by their headers.
type walker struct {
	f      io.ReaderAt
	number uint64
	offset int64
	buf    []byte
	start  int64 // of what is in buf
	have   int
}

const walkChunk = 64 << 10

func newWalker(f io.ReaderAt, number uint64) *walker {
	return &walker{f: f, number: number, offset: segmentHeader, buf: make([]byte, walkChunk)}
}

// next gives the next frame, or io.EOF. A place that is no frame is searched
// past; damaged counts the octets that belong to none.
func (w *walker) next() (f frame, damaged int64, err error) {
	for {
		h, err := w.peek()
		if err != nil {
			return frame{}, damaged, err
		}
		if f, ok := parseHeader(h, w.number, w.offset); ok {
			w.offset = f.end()
			return f, damaged, nil
		}
		w.offset++
		damaged++
	}
}

// peek gives the frameHeader octets at offset.
func (w *walker) peek() ([]byte, error) {
	at := int(w.offset - w.start)
	if w.offset < w.start || at+frameHeader > w.have {
		n, err := w.f.ReadAt(w.buf, w.offset)
		if n < frameHeader {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.EOF
			}
			return nil, err
		}
		w.start, w.have, at = w.offset, n, 0
	}
	return w.buf[at : at+frameHeader], nil
}
