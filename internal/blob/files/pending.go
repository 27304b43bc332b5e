package files

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"behalf/internal/blob"
	"behalf/internal/fsync"
)

// A token is the version of its form, then segment, offset, size, owner and the
// checksum of the frame's content.
const (
	tokenVersion = 1
	tokenSize    = 1 + 8 + 8 + 8 + len(blob.Owner{}) + 4
)

// pending is a frame that was written and not yet synced.
type pending struct {
	group *group
	ref   blob.Ref
	token [tokenSize]byte
}

func newPending(g *group, frame []byte, segment uint64, offset int64) *pending {
	f, _ := parseHeader(frame, segment, offset)
	p := &pending{group: g, ref: refOf(segment, f)}
	fillToken(p.token[:], segment, f)
	return p
}

// Wait implements blob.Pending.
func (p *pending) Wait() error {
	<-p.group.done
	return p.group.err
}

// Err implements blob.Pending.
func (p *pending) Err() error {
	select {
	case <-p.group.done:
		return p.group.err
	default:
		return nil
	}
}

// Token implements blob.Pending.
func (p *pending) Token() []byte { return p.token[:] }

func fillToken(b []byte, segment uint64, f frame) {
	b[0] = tokenVersion
	binary.BigEndian.PutUint64(b[1:], segment)
	binary.BigEndian.PutUint64(b[9:], uint64(f.offset))
	binary.BigEndian.PutUint64(b[17:], uint64(f.size))
	copy(b[25:], f.owner[:])
	binary.BigEndian.PutUint32(b[41:], f.sum)
}

func parseToken(b []byte) (segment uint64, f frame, ok bool) {
	if len(b) != tokenSize || b[0] != tokenVersion {
		return 0, frame{}, false
	}
	segment = binary.BigEndian.Uint64(b[1:])
	f = frame{offset: int64(binary.BigEndian.Uint64(b[9:])), size: int64(binary.BigEndian.Uint64(b[17:])), sum: binary.BigEndian.Uint32(b[41:])}
	copy(f.owner[:], b[25:])
	return segment, f, segment > 0 && f.offset >= segmentHeader && f.size >= 0 && f.size <= maxFrameBody
}

// Whole reports whether the body that a token names got to the disk whole. If
// so it is on stable storage when Whole returns. False means that it is torn or
// missing, as after a crash before its sync was done; an error, that nobody can
// tell.
func (s *Store) Whole(token []byte) (bool, error) {
	segment, want, ok := parseToken(token)
	if !ok {
		return false, fmt.Errorf("look for a body: the token %x is none of ours", token)
	}
	whole, err := s.whole(segment, want)
	if err != nil {
		return false, fmt.Errorf("look for the body in segment %d at %d: %w", segment, want.offset, err)
	}
	return whole, nil
}

// newest is the number of the newest segment. It is never reclaimed: so a body
// behind it was not written to this folder, or the folder has lost what it had.
func (s *Store) newest() (number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range s.segments {
		number = max(number, n)
	}
	return number
}

func (s *Store) whole(segment uint64, want frame) (whole bool, err error) {
	f, err := os.OpenFile(s.segmentPath(segment), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) && s.newest() > segment {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buf, err := readFrame(f, want.owner, refOf(segment, want))
	if errors.Is(err, blob.ErrCorrupt) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer putBuffer(buf)
	if found, ok := parseHeader(buf, segment, want.offset); !ok || found != want {
		return false, nil
	}
	// Written again, because after a sync that failed the kernel may take what
	// it holds in memory for stored.
	if _, err := f.WriteAt(buf, want.offset); err != nil {
		return false, err
	}
	if err := s.write.sync(f); err != nil {
		return false, err
	}
	return true, fsync.Path(s.segmentDir())
}
