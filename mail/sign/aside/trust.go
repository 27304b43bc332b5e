package aside

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

var (
	errAbsent = errors.New("there is no")
	errLost   = errors.New("this program cannot tell where it lies")
)

// there gives an error if there is no such program, or if others than those who
// may change this program may have put it there: it is handed keys.
func (h *Helper) there() error {
	if !filepath.IsAbs(h.path) {
		return errLost
	}
	file, err := os.Lstat(h.path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w %s", errAbsent, h.path)
	}
	if err != nil {
		return err
	}
	folder, err := os.Stat(filepath.Dir(h.path))
	if err != nil {
		return err
	}
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		return err
	}
	return trusted(h.path, file, folder, owner(self))
}

// trusted gives an error unless only root and one other can have written a program.
func trusted(path string, file, folder fs.FileInfo, self uint32) error {
	switch by := owner(file); {
	case !file.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	case by != 0 && by != self:
		return fmt.Errorf("%s belongs to user %d: want root, or who owns the relay's own program", path, by)
	case file.Mode()&0o022 != 0:
		return fmt.Errorf("%s can be written by its group or others (mode %04o)", path, file.Mode().Perm())
	case folder.Mode()&0o022 != 0:
		return fmt.Errorf("the folder of %s can be written by its group or others (mode %04o)", path, folder.Mode().Perm())
	}
	return nil
}

func owner(f fs.FileInfo) uint32 { return f.Sys().(*syscall.Stat_t).Uid }
