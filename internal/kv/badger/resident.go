package badger

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"
	badgertable "github.com/dgraph-io/badger/v4/table"
	"golang.org/x/sys/unix"
)

// Badger reads its tables where they are mapped, and a merge touches all of
// them. What was touched once counts as memory of this process until the kernel
// wants the page for another, so a store of a gigabyte soon looks like a leak of
// a gigabyte. The pager takes such pages out of the process when they have
// become many. They stay in the page cache, as if they had been read from a
// file, and the next reader maps them again without going to the disk.
//
// No address may be given back that Badger has meanwhile unmapped, for another
// mapping may be there now. So the pager opens an iterator, which holds every
// table of that moment, and touches the maps of those alone that are known to
// have been there before and after it was opened.
type pager struct {
	store *Store
	every time.Duration
	room  int64 // how many octets may come until they are given back
	stop  chan struct{}
	done  chan struct{}
}

const (
	pagerEvery = 250 * time.Millisecond
	pagerRoom  = 16 << 20
	// pagerAgain is after how many looks it tries again although little came: what
	// a merge was making could not be given back before.
	pagerAgain = 8
)

func newPager(s *Store, every time.Duration, room int64) *pager {
	p := &pager{store: s, every: every, room: room, stop: make(chan struct{}), done: make(chan struct{})}
	go p.run()
	return p
}

func (p *pager) close() {
	close(p.stop)
	<-p.done
}

func (p *pager) run() {
	defer close(p.done)
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	var least, fewest int64 // that were resident since pages were last given back, and ever after that
	var last time.Time      // that they were
	var told bool           // of trouble
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
		now, err := residentFiles()
		if errors.Is(err, fs.ErrNotExist) {
			return // a system without /proc/self
		}
		if err == nil && now < least+p.room && (now < fewest+p.room || time.Since(last) < pagerAgain*p.every) {
			least = min(least, now)
			continue
		}
		if err == nil {
			err = p.store.unmapTables()
		}
		if err == nil {
			least, err = residentFiles()
		}
		if last = time.Now(); err == nil && (fewest == 0 || least < fewest) {
			fewest = least
		}
		if err != nil && !told {
			told = true
			p.store.opts.Log.Warn("badger", "message", "could not give pages of tables back; they stay in memory until the kernel wants them, or until it works again", "error", err)
		}
	}
}

// residentFiles tells how many octets of mapped files are in the process.
func residentFiles() (int64, error) {
	b, err := os.ReadFile("/proc/self/statm") // in pages: size, resident, of which from files, …
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(b)
	if len(fields) < 3 {
		return 0, fmt.Errorf("/proc/self/statm has %d fields", len(fields))
	}
	pages, err := strconv.ParseInt(string(fields[2]), 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// unmapTables gives the pages of all tables back to the page cache.
func (s *Store) unmapTables() error {
	type place struct {
		id    uint64
		level int
	}
	before := map[place]bool{}
	for _, t := range s.db.Tables() {
		before[place{t.ID, t.Level}] = true
	}
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	it := txn.NewIterator(badgerdb.IteratorOptions{})
	defer it.Close()
	dir, err := realPath(s.dir)
	if err != nil {
		return err
	}
	held := map[string]bool{}
	for _, t := range s.db.Tables() {
		if before[place{t.ID, t.Level}] {
			held[badgertable.NewFilename(t.ID, dir)] = true
		}
	}
	return eachMap(func(start, end uintptr, file string) error {
		if !held[file] {
			return nil
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("madvise %s: %w", filepath.Base(file), errno)
		}
		return nil
	})
}

// realPath is how the kernel names a path.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// eachMap calls fn for each mapped file of the process.
func eachMap(fn func(start, end uintptr, file string) error) error {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer f.Close()
	// 7f5e1c000000-7f5e1c200000 r--s 00000000 fe:00 12345    /a/path
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		at := bytes.IndexByte(lines.Bytes(), '/')
		if at < 0 {
			continue
		}
		from, to, _ := bytes.Cut(lines.Bytes()[:at], []byte("-"))
		to, _, _ = bytes.Cut(to, []byte(" "))
		start, err := strconv.ParseUint(string(from), 16, 64)
		end, err2 := strconv.ParseUint(string(to), 16, 64)
		if err := errors.Join(err, err2); err != nil {
			return fmt.Errorf("/proc/self/maps: %w", err)
		}
		if err := fn(uintptr(start), uintptr(end), string(lines.Bytes()[at:])); err != nil {
			return err
		}
	}
	return lines.Err()
}
