// Package fsync puts what was written on stable storage.
//
// After an error nothing is known of what was written before: the kernel may
// have dropped it, and tells so once only.
package fsync

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Data syncs the octets of a file and what it takes to read them, without its
// times (fdatasync).
func Data(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}

// Path syncs the file or folder with this name. A folder's sync makes the names
// in it durable.
func Path(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
