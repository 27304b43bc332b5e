package journal

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"behalf/internal/fsync"
	"behalf/internal/kv"
)

// ErrDamaged is returned by Open for a log that is not as it was left, and that
// no crash can have left so.
var ErrDamaged = errors.New("the log is damaged")

// Open opens the log in dir, which is there, and gives every row in it to
// replay, in order, with the number of its file and of its record, and whether
// that file is one before the last. Everything
// up to file freed is known to be durable elsewhere; -1: the log was never
// used, or nothing is known.
//
// The caller sees to it that one process has the directory.
func Open(dir string, freed int64, o Options, replay func(file, seq uint64, rows []kv.Row, older bool)) (*Journal, error) {
	if o.Sync == nil {
		o.Sync = fsync.Data
	}
	j := &Journal{dir: dir, opts: o, next: 1, oldest: 1}
	files, err := j.files(freed)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if len(files) == 0 {
		if err := j.begin(1); err != nil {
			return nil, fmt.Errorf("journal: begin the first file: %w", err)
		}
		return j, nil
	}
	j.oldest = files[0]
	for i, file := range files {
		if err := j.recover(file, i == 0, i == len(files)-1, replay); err != nil {
			if j.f != nil {
				_ = j.f.Close()
			}
			return nil, fmt.Errorf("journal: %s: %w", j.path(file), err)
		}
	}
	if err := j.settle(); err != nil {
		return nil, errors.Join(err, j.f.Close())
	}
	return j, nil
}

// files gives the numbers of the files, in order and without a gap.
func (j *Journal) files(freed int64) ([]uint64, error) {
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return nil, err
	}
	var files []uint64
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), suffix)
		if n, err := strconv.ParseUint(base, 16, 64); ok && err == nil && len(base) == 16 {
			files = append(files, n)
		}
	}
	slices.Sort(files)
	if len(files) == 0 && freed < 0 {
		return nil, nil
	}
	first := uint64(max(freed, 0)) + 1
	if len(files) == 0 || files[0] > first || files[len(files)-1] < first {
		return nil, fmt.Errorf("%w: %s is missing", ErrDamaged, j.path(first))
	}
	for i, n := range files {
		if n != files[0]+uint64(i) {
			return nil, fmt.Errorf("%w: %s is missing", ErrDamaged, j.path(files[0]+uint64(i)))
		}
	}
	return files, nil
}

// entry is a record as it was found.
type entry struct {
	offset, end int64
	payload     []byte
}

// recover reads one file and, if it is the last, goes on writing it.
func (j *Journal) recover(file uint64, first, last bool, replay func(file, seq uint64, rows []kv.Row, older bool)) error {
	b, err := os.ReadFile(j.path(file))
	if err != nil {
		return err
	}
	h, ok := parseHead(b)
	if !ok || h.file != file {
		return fmt.Errorf("%w: its header", ErrDamaged)
	}
	if first {
		j.next = h.first
	} else if h.first != j.next {
		return fmt.Errorf("%w: it begins with record %d, and the file before it ends before %d", ErrDamaged, h.first, j.next)
	}
	found, err := h.run(b)
	if err != nil {
		return err
	}
	if last {
		if found, err = j.resume(h, b, found); err != nil {
			return err
		}
	}
	for _, e := range found {
		rows, _, err := parsePayload(e.payload)
		if err != nil {
			return fmt.Errorf("%w: record %d: %w", ErrDamaged, j.next, err)
		}
		replay(file, j.next, rows, !last)
		j.next++
	}
	return nil
}

// run gives the records of a file up to the first that cannot be read. There
// must be none behind that.
func (h *head) run(file []byte) (found []entry, err error) {
	at := int64(firstRecord)
	for next := h.first; ; next++ {
		seq, payload, end, ok := h.record(file, at)
		if !ok {
			break
		}
		if seq != next {
			return nil, fmt.Errorf("%w: record %d at offset %d, where %d belongs", ErrDamaged, seq, at, next)
		}
		found = append(found, entry{at, end, payload})
		at = end
	}
	for behind := at + 1; behind < int64(len(file)); behind++ {
		if h.isRecord(file, behind) {
			return nil, fmt.Errorf("%w: record %d at offset %d cannot be read, and there is another behind it at %d",
				ErrDamaged, h.first+uint64(len(found)), at, behind)
		}
	}
	return found, nil
}

// resume opens the last file to go on writing it. Its last record may not have
// been acknowledged: it goes if what it needs is not there, and else it is
// synced now, because readers are about to see it. It is written again before:
// when its sync failed, the kernel has it in memory alone and takes it for
// written.
func (j *Journal) resume(h head, file []byte, found []entry) ([]entry, error) {
	f, err := os.OpenFile(j.path(h.file), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	j.f, j.head, j.end, j.filled = f, h, firstRecord, int64(len(file))
	if n := len(found); n > 0 {
		whole, err := j.whole(found[n-1].payload)
		if err != nil {
			return nil, err
		}
		if !whole {
			if _, err := f.WriteAt(make([]byte, recordHeader), found[n-1].offset); err != nil {
				return nil, err
			}
			found = found[:n-1]
		}
	}
	if n := len(found); n > 0 {
		last := found[n-1]
		if _, err := f.WriteAt(file[last.offset:last.end], last.offset); err != nil {
			return nil, err
		}
		j.end = last.end
	}
	return found, j.opts.Sync(f)
}

// whole reports whether everything is there that a record needs.
func (j *Journal) whole(payload []byte) (bool, error) {
	_, tokens, err := parsePayload(payload)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	j.asked = len(tokens) > 0
	for _, t := range tokens {
		if j.opts.Whole == nil {
			return false, errors.New("its last record needs something, and there is nobody to ask for it")
		}
		ok, err := j.opts.Whole(t)
		if err != nil {
			return false, fmt.Errorf("look for what the last record needs: %w", err)
		}
		if !ok {
			return false, nil
		}
	}
	return true, nil
}

// settle ends the question of what the last record needs, with an empty record
// behind it: the answer may be another later, when what was needed is deleted.
func (j *Journal) settle() error {
	if !j.asked {
		return nil
	}
	_, err := j.Append(nil, nil)
	return err
}
