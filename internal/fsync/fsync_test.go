package fsync

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestSync(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(Data(f), Path(f.Name()), Path(dir), f.Close()); err != nil {
		t.Error(err)
	}
	if err := Data(f); err == nil {
		t.Error("a closed file is synced")
	}
	if err := Path(filepath.Join(dir, "y")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
