package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	suffix   = ".inputs"
	nameTime = "20060102T150405.000000000Z"
	// preface begins every segment; another one is of a version we do not know.
	preface = "behalf policy inputs 1\n"
)

// segment is the file that is written.
type segment struct {
	f     *os.File
	begun time.Time
	size  int64
}

func newSegment(dir string, now time.Time) (*segment, error) {
	for {
		f, err := os.OpenFile(filepath.Join(dir, now.UTC().Format(nameTime)+suffix), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, fs.ErrExist) {
			now = now.Add(time.Nanosecond)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("a new file for policy inputs: %w", err)
		}
		s := &segment{f: f, begun: now}
		return s, s.append([]byte(preface))
	}
}

// append writes b in one piece. What an error leaves torn is taken back if the
// disk lets us.
func (s *segment) append(b []byte) error {
	if _, err := s.f.WriteAt(b, s.size); err != nil {
		return fmt.Errorf("writing policy inputs: %w", errors.Join(err, s.f.Truncate(s.size)))
	}
	s.size += int64(len(b))
	return nil
}

func (s *segment) close() error {
	if s == nil {
		return nil
	}
	return s.f.Close()
}

// segmentSize and segmentAge are from which a new segment begins, so that what
// goes at once is a small part of the whole.
func (j *Journal) segmentSize() int64 { return min(64<<20, max(j.o.Size/16, blockSize)) }

func (j *Journal) segmentAge() time.Duration {
	return min(time.Hour, max(j.o.Keep/50, time.Minute))
}

// file is a segment on disk.
type file struct {
	path  string
	size  int64
	ended time.Time // when it was written last
}

// files lists the segments, the oldest first.
func files(dir string) ([]file, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("listing policy inputs: %w", err)
	}
	var all []file
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), suffix) || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // dropped meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("listing policy inputs: %w", err)
		}
		all = append(all, file{filepath.Join(dir, e.Name()), info.Size(), info.ModTime()})
	}
	slices.SortFunc(all, func(a, b file) int { return strings.Compare(a.path, b.path) })
	return all, nil
}

// sweep drops segments that are older than the retention, and the oldest ones
// over the size.
func (j *Journal) sweep(now time.Time) error {
	all, err := files(j.dir)
	if err != nil {
		return err
	}
	var total int64
	for _, f := range all {
		total += f.size
	}
	var errs []error
	for _, f := range all {
		if f.ended.After(now.Add(-j.o.Keep)) && total <= j.o.Size-j.segmentSize() {
			continue
		}
		if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
			continue
		}
		total -= f.size
	}
	return errors.Join(errs...)
}

// Remove deletes all that is recorded in dir; a folder that is not there is
// fine.
func Remove(dir string) error {
	all, err := files(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, f := range all {
		err = errors.Join(err, os.Remove(f.path))
	}
	return err
}
