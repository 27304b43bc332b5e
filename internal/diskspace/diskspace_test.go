package diskspace

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestReserve(t *testing.T) {
	const gib = 1 << 30
	for size, want := range map[uint64]uint64{
		1 * gib:    256 << 20,
		2 * gib:    256 << 20,
		10 * gib:   1 * gib,
		20 * gib:   2 * gib,
		4000 * gib: 2 * gib,
	} {
		if got := Reserve(size); got != want {
			t.Errorf("of %d GiB it keeps %d MiB, want %d", size/gib, got>>20, want>>20)
		}
	}
}

func TestFree(t *testing.T) {
	bytes, inodes, err := Free(t.TempDir())
	if err != nil || bytes == 0 || inodes == 0 {
		t.Errorf("free: %d bytes, %d inodes, %v", bytes, inodes, err)
	}
	if _, _, err := Free("/nowhere/at/all"); err == nil {
		t.Error("a path that is not there has free space")
	}
	if _, err := NewWatch("/nowhere/at/all", 0); err == nil {
		t.Error("a path that is not there can be watched")
	}
}

func TestFull(t *testing.T) {
	free, _, err := Free(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for reserve, want := range map[uint64]bool{1: false, 2 * free: true} {
		w, err := NewWatch(t.TempDir(), reserve)
		if err != nil {
			t.Fatal(err)
		}
		if w.Full() != want || w.Reserve() != reserve || w.Free() == 0 {
			t.Errorf("with a reserve of %d of %d bytes, full is %v", reserve, free, w.Full())
		}
	}
}

func TestSamples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "disk")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		w, err := NewWatch(dir, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(dir); err != nil { // from now on it cannot be asked
			t.Fatal(err)
		}
		time.Sleep(sampleEvery - time.Millisecond)
		if w.Full() {
			t.Error("it looked again too early")
		}
		time.Sleep(time.Millisecond)
		if !w.Full() {
			t.Error("it did not look again")
		}
	})
}

func BenchmarkFull(b *testing.B) {
	w, err := NewWatch(b.TempDir(), 1)
	if err != nil {
		b.Fatal(err)
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			w.Full()
		}
	})
}
