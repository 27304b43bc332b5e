package lab

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

// Tmpfs gives a small disk of its own, in memory.
func Tmpfs(t testing.TB, mib int) string {
	t.Helper()
	dir := Dir(t)
	if err := syscall.Mount("lab", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=755", mib)); err != nil {
		Missing(t, "the right to mount: "+err.Error())
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmounting: %v", err)
			_ = syscall.Unmount(dir, syscall.MNT_DETACH) // so that nothing stays behind
		}
	})
	return dir
}

// Fill makes a file that leaves one MiB of the disk that dir is on.
func Fill(t testing.TB, file, dir string) {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	free := int64(st.Bavail) * st.Bsize
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, max(1, free-1<<20)); err != nil {
		t.Fatalf("filling the disk: %v", err)
	}
}
