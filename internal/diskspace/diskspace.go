// Package diskspace tells when a file system is nearly full, cheaply enough to
// ask before each message. Badger writes through memory maps and dies on a full
// disk, so the doors must close while there is still room for what is under way.
package diskspace

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	defaultReserve = 2 << 30
	smallDisk      = 20 << 30 // below this a tenth is kept free instead,
	leastReserve   = 256 << 20
	inodeReserve   = 10_000
	sampleEvery    = 250 * time.Millisecond
)

// Free gives what an ordinary user may still take on the file system of path:
// bytes and inodes. A file system that does not count inodes has MaxUint64.
func Free(path string) (bytes, inodes uint64, err error) {
	free, _, inodes, err := statfs(path)
	return free, inodes, err
}

func statfs(path string) (free, size, inodes uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, 0, fmt.Errorf("free space of %s: %w", path, err)
	}
	block := uint64(st.Bsize)
	inodes = uint64(st.Ffree)
	if st.Files == 0 {
		inodes = math.MaxUint64
	}
	return uint64(st.Bavail) * block, uint64(st.Blocks) * block, inodes, nil
}

// Reserve is the room that is kept free by default on a file system of size
// bytes: 2 GiB, on less than 20 GiB a tenth, but never under 256 MiB.
func Reserve(size uint64) uint64 {
	if size >= smallDisk {
		return defaultReserve
	}
	return max(size/10, leastReserve)
}

// Watch remembers the free space of one file system and looks again after 250
// ms at the earliest, and only when asked. It may be used by many goroutines.
type Watch struct {
	path    string
	reserve uint64
	next    atomic.Int64 // Unix time in ns before which the sample is good
	free    atomic.Uint64
	full    atomic.Bool
}

// NewWatch watches the file system of path, which must exist. With reserve 0
// the default is taken, see Reserve.
func NewWatch(path string, reserve uint64) (*Watch, error) {
	_, size, _, err := statfs(path)
	if err != nil {
		return nil, err
	}
	if reserve == 0 {
		reserve = Reserve(size)
	}
	w := &Watch{path: path, reserve: reserve}
	w.sample()
	return w, nil
}

// Full reports whether less than the reserve is left, in bytes or inodes. When
// the file system cannot be asked, it is full.
func (w *Watch) Full() bool {
	w.refresh()
	return w.full.Load()
}

// Free gives the free bytes as last seen.
func (w *Watch) Free() uint64 {
	w.refresh()
	return w.free.Load()
}

// Reserve gives the bytes that are kept free.
func (w *Watch) Reserve() uint64 { return w.reserve }

func (w *Watch) refresh() {
	now, next := time.Now().UnixNano(), w.next.Load()
	old := next-now > int64(sampleEvery) // the clock went back
	if (now >= next || old) && w.next.CompareAndSwap(next, now+int64(sampleEvery)) {
		w.sample()
	}
}

func (w *Watch) sample() {
	w.next.Store(time.Now().Add(sampleEvery).UnixNano())
	bytes, inodes, err := Free(w.path)
	w.free.Store(bytes)
	w.full.Store(err != nil || bytes < w.reserve || inodes < inodeReserve)
}
