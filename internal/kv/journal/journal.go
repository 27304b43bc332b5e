// Package journal is the log that stands before an ordered store: what a commit
// writes is one record, one write and one sync here, and reaches the store long
// after, if it still lives then.
//
// The log is files of about the same size, numbered. Only the last is written.
// Once everything in a file is durable elsewhere, Free takes it out of the log
// and keeps it to be written over: a sync of blocks that are there already
// leaves the file system's own journal alone and costs half.
//
// The next record is written when the one before is synced. So a record that
// cannot be read, with none behind it, was never acknowledged: it is the end of
// the log. One with another behind it, a missing file or a gap in the numbers is
// damage, and Open refuses it.
package journal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"behalf/internal/fsync"
	"behalf/internal/kv"
)

const (
	suffix = ".log"
	spare  = "spare" + suffix
	// ahead is how far zeros are written before records, in a file that was
	// never full.
	ahead = 512 << 10
	// keepBuffer is the largest record whose memory is used again.
	keepBuffer = 1 << 20
)

// Options of a journal.
type Options struct {
	// Size at which a file is full. A record may be larger.
	Size int64
	// Whole is asked at Open about what the last record needs: whether it is
	// there, and on stable storage from now on. If not, the record was never
	// acknowledged, and goes. Nil: records need nothing.
	Whole func(token []byte) (bool, error)
	// Sync is fdatasync; for tests.
	Sync func(*os.File) error
}

// Journal is an open log. Append and Next are for one goroutine, Free may be
// called by another.
type Journal struct {
	dir    string
	opts   Options
	f      *os.File
	head   head
	end    int64  // of the last record
	filled int64  // blocks up to here are written
	next   uint64 // sequence number
	buf    []byte

	oldest uint64 // file; Free's
	asked  bool   // at Open, what the last record needs
}

// File is the number of the file that is written.
func (j *Journal) File() uint64 { return j.head.file }

// Full reports whether the next record belongs into another file.
func (j *Journal) Full() bool { return j.end >= j.opts.Size }

// Used is how much of the file is written.
func (j *Journal) Used() int64 { return j.end - firstRecord }

// Append writes a record and returns its number when it is on stable storage.
// After an error the outcome is unknown, and nothing more may be appended.
func (j *Journal) Append(rows []kv.Row, needs []kv.Durable) (uint64, error) {
	b := appendRecord(j.buf[:0], rows, needs)
	if int64(len(b)) > 1<<31 {
		return 0, fmt.Errorf("journal: a record of %d bytes", len(b))
	}
	j.head.seal(b, j.next, j.end)
	if err := j.fill(j.end + int64(len(b))); err != nil {
		return 0, err
	}
	if _, err := j.f.WriteAt(b, j.end); err != nil {
		return 0, fmt.Errorf("journal: %w", err)
	}
	if err := j.opts.Sync(j.f); err != nil {
		return 0, fmt.Errorf("journal: %w", err)
	}
	j.end += int64(len(b))
	j.next++
	if j.buf = b; cap(b) > keepBuffer {
		j.buf = nil
	}
	return j.next - 1, nil
}

// fill sees to it that blocks up to end are written, so that most syncs change
// nothing but data.
func (j *Journal) fill(end int64) error {
	if end <= j.filled {
		return nil
	}
	to := (end + ahead) / firstRecord * firstRecord
	for j.filled < to {
		n, err := j.f.WriteAt(zeros[:min(to-j.filled, int64(len(zeros)))], j.filled)
		j.filled += int64(n)
		if err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	return nil
}

// zeros are never changed.
var zeros [64 << 10]byte

// Next begins the next file; the one before is synced. After an error nothing
// more may be appended.
func (j *Journal) Next() error {
	if err := j.begin(j.head.file + 1); err != nil {
		return fmt.Errorf("journal: begin file %d: %w", j.head.file+1, err)
	}
	return nil
}

// begin makes the file with this number and writes to it from now on. It comes
// by its name when its header is stable.
func (j *Journal) begin(file uint64) error {
	h := head{file: file, first: j.next}
	if _, err := rand.Read(h.salt[:]); err != nil {
		return err
	}
	name := filepath.Join(j.dir, spare)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	filled, err := j.writeHead(f, &h)
	if err == nil {
		err = os.Rename(name, j.path(file))
	}
	if err == nil {
		err = fsync.Path(j.dir)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if j.f != nil {
		_ = j.f.Close() // all of it is synced
	}
	j.f, j.head, j.end, j.filled = f, h, firstRecord, filled
	return nil
}

func (j *Journal) writeHead(f *os.File, h *head) (filled int64, err error) {
	block := make([]byte, firstRecord)
	copy(block, h.encode())
	if _, err = f.WriteAt(block, 0); err == nil {
		err = j.opts.Sync(f)
	}
	if err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Free takes the files up to this one, which is not the one that is written,
// out of the log: everything in them is durable elsewhere.
func (j *Journal) Free(file uint64) error {
	for ; j.oldest <= file; j.oldest++ {
		if err := j.free(j.path(j.oldest)); err != nil {
			return fmt.Errorf("journal: free file %d: %w", j.oldest, err)
		}
	}
	return nil
}

// free keeps one file to be written over.
func (j *Journal) free(path string) error {
	to := filepath.Join(j.dir, spare)
	_, err := os.Stat(to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = os.Rename(path, to)
	case err == nil:
		err = os.Remove(path)
	}
	if err != nil {
		return err
	}
	return fsync.Path(j.dir) // before it is written over
}

// Close ends the use of the journal.
func (j *Journal) Close() error { return j.f.Close() }

func (j *Journal) path(file uint64) string {
	return filepath.Join(j.dir, fmt.Sprintf("%016x%s", file, suffix))
}
