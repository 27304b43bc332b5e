package files

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"behalf/internal/blob"
	"behalf/internal/blob/blobtest"
	"behalf/internal/fsync"
	"behalf/internal/testkit/need"
)

var bg = context.Background()

func put(t testing.TB, s *Store, n, size int) blob.Ref {
	t.Helper()
	ref, err := s.Put(bg, blobtest.OwnerOf(n), blobtest.Bytes(blobtest.BodyOf(n, size)))
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func check(t testing.TB, s *Store, n int, ref blob.Ref) {
	t.Helper()
	got, err := blobtest.Read(s, blobtest.OwnerOf(n), ref)
	if err != nil || !bytes.Equal(got, blobtest.BodyOf(n, int(ref.Size))) {
		t.Errorf("body %d at %+v does not come back: %v", n, ref, err)
	}
}

func shut(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// change edits the bytes of a file.
func change(t testing.TB, path string, fn func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, fn(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A crash leaves a part of what was being written behind the last frame that
// was acknowledged: some of a good frame, noise, zeros.
func TestTornTail(t *testing.T) {
	for round := range 40 {
		dir := t.TempDir()
		s := open(t, dir, hasty)
		var refs []blob.Ref
		for n := range 10 {
			refs = append(refs, put(t, s, n, rand.IntN(5000)))
		}
		torn := refs[9]
		shut(t, s)
		change(t, s.segmentPath(1), func(b []byte) []byte {
			switch cut := torn.Offset + rand.Int64N(frameHeader+torn.Size); round % 3 {
			case 0:
				return b[:cut]
			case 1:
				return append(b[:cut], make([]byte, rand.IntN(10_000))...)
			default:
				noise := blobtest.BodyOf(round, rand.IntN(10_000))
				return append(b[:cut], noise...)
			}
		})
		s = open(t, dir, hasty)
		for n, ref := range refs[:9] {
			check(t, s, n, ref)
		}
		ref := put(t, s, 99, 100)
		if ref.Segment <= torn.Segment {
			t.Fatalf("after a restart segment %d is appended to", ref.Segment)
		}
		check(t, s, 99, ref)
		owners := &blobtest.Owners{}
		for n, ref := range refs[:9] {
			owners.Set(blobtest.OwnerOf(n), ref)
		}
		living, _, damaged, err := (&reclaim{Store: s, ctx: bg, alive: owners.Alive}).living(openFile(t, s.segmentPath(1)), 1)
		if err != nil || damaged > 0 || len(living) != 9 {
			t.Errorf("a walk finds %d of 9 frames and %d damaged octets: %v", len(living), damaged, err)
		}
	}
}

func openFile(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// One octet goes bad: its body is reported, the others are there, and no walk
// takes a segment for dead because of it.
func TestDamage(t *testing.T) {
	for round := range 30 {
		dir := t.TempDir()
		s := open(t, dir, hasty)
		var owners blobtest.Owners
		refs := make([]blob.Ref, 12)
		for n := range refs {
			refs[n] = put(t, s, n, 1000)
			owners.Set(blobtest.OwnerOf(n), refs[n])
		}
		shut(t, s)
		victim := rand.IntN(11)
		inHeader := round%2 == 0
		at := refs[victim].Offset + frameHeader + rand.Int64N(1000)
		if inHeader {
			at = refs[victim].Offset + rand.Int64N(frameHeader)
		}
		change(t, s.segmentPath(1), func(b []byte) []byte { b[at] ^= 1 << rand.IntN(8); return b })
		old := hasty
		old.SafeAge = -1
		s = open(t, dir, old)
		put(t, s, 100, 10) // so that segment 1 is not the highest
		for n := range refs {
			if n != victim && n != 11 {
				owners.Drop(blobtest.OwnerOf(n)) // sparse: it would be emptied
			}
		}
		for range 3 {
			if err := s.Reclaim(bg, owners.Alive, owners.Move); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := os.Stat(s.segmentPath(1)); err != nil {
			t.Errorf("a damaged segment is gone: %v", err)
		}
		ref, _ := owners.Ref(blobtest.OwnerOf(11))
		check(t, s, 11, ref)
		_, err := blobtest.Read(s, blobtest.OwnerOf(victim), refs[victim])
		if !inHeader && !errors.Is(err, blob.ErrCorrupt) {
			t.Errorf("a body with a bad octet gives %v", err)
		}
		shut(t, s)
	}
}

func TestSyncsAreShared(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	var all sync.WaitGroup
	const writers, times = 50, 20
	for g := range writers {
		all.Go(func() {
			for i := range times {
				put(t, s, g*1000+i, 1000)
			}
		})
	}
	all.Wait()
	if n := s.write.syncs.Load(); n > writers*times/3 {
		t.Errorf("%d bodies by %d writers took %d syncs", writers*times, writers, n)
	}
}

func TestFailedSync(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	before := put(t, s, 1, 1000)
	fault := errors.New("disk on fire")
	s.write.sync = func(*os.File) error { return fault } // the writer is idle
	if _, err := s.Put(bg, blobtest.OwnerOf(2), blobtest.Bytes("x")); !errors.Is(err, fault) {
		t.Errorf("a failed sync gives %v", err)
	}
	s.write.sync = fsync.Data
	after := put(t, s, 3, 1000)
	if after.Segment == before.Segment {
		t.Error("a segment whose sync failed is written and synced again")
	}
	check(t, s, 1, before)
	check(t, s, 3, after)
}

func TestFailedWrite(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	before := put(t, s, 1, 1000)
	good := s.write.out.file
	s.write.out.file = openFile(t, good.Name()) // not for writing
	if _, err := s.Put(bg, blobtest.OwnerOf(2), blobtest.Bytes("x")); !errors.Is(err, syscall.EBADF) {
		t.Errorf("a failed write gives %v", err)
	}
	if err := good.Close(); err != nil {
		t.Error(err)
	}
	after := put(t, s, 3, 1000)
	check(t, s, 1, before)
	check(t, s, 3, after)
}

func TestReserve(t *testing.T) {
	full := false
	s := open(t, t.TempDir(), Options{Full: func() bool { return full }})
	ref := put(t, s, 1, 10)
	full = true
	if _, err := s.Put(bg, blobtest.OwnerOf(2), blobtest.Bytes("x")); !errors.Is(err, blob.ErrFull) {
		t.Errorf("below the reserve Put gives %v", err)
	}
	check(t, s, 1, ref)
}

// A disk of 4 MiB fills up. It is a tmpfs in a mount namespace of a child's own.
func TestFullDisk(t *testing.T) {
	if dir := os.Getenv("BEHALF_TEST_TMPFS"); dir != "" {
		err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "") // nobody else sees it
		if err == nil {
			err = syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m")
		}
		if err != nil {
			need.Missing(t, "cannot mount a tmpfs: ", err)
		}
		fillDisk(t, filepath.Join(dir, "blob"))
		return
	}
	if runtime.GOOS != "linux" {
		need.Missing(t, "needs Linux")
	}
	child := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	child.Env = append(os.Environ(), "BEHALF_TEST_TMPFS="+t.TempDir())
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		child.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		child.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
	}
	out, err := child.CombinedOutput()
	switch {
	case errors.Is(err, syscall.EPERM) || strings.Contains(string(out), "cannot mount"):
		need.Missing(t, "no private mounts here")
	case err != nil || !strings.Contains(string(out), "PASS"):
		t.Errorf("%v\n%s", err, out)
	}
}

func fillDisk(t *testing.T, dir string) {
	s := open(t, dir, Options{SegmentSize: 1 << 20})
	refs := map[int]blob.Ref{}
	refused, bare := 0, 0
	for n := range 3000 {
		size := 100 + n*37%8000
		if n%50 == 0 {
			size = 1<<20 + n
		}
		ref, err := s.Put(bg, blobtest.OwnerOf(n), blobtest.Bytes(blobtest.BodyOf(n, size)))
		if err != nil {
			if !errors.Is(err, blob.ErrFull) {
				t.Fatalf("a full disk gives %v", err)
			}
			refused++
			continue
		}
		refs[n] = ref
		if s.write.out.bare {
			bare++
		}
	}
	if refused == 0 || len(refs) == 0 || bare == 0 {
		t.Fatalf("%d stored, %d refused, %d stored where there was no room for zeros", len(refs), refused, bare)
	}
	var owners blobtest.Owners
	for n, ref := range refs {
		check(t, s, n, ref)
		if n%2 == 0 {
			owners.Set(blobtest.OwnerOf(n), ref)
		} else if err := s.Delete(blobtest.OwnerOf(n), ref); err != nil {
			t.Error(err)
		}
	}
	shut(t, s)
	s = open(t, dir, Options{SegmentSize: 1 << 20})
	for n, ref := range refs {
		if n%2 == 0 {
			check(t, s, n, ref)
			if err := s.Delete(blobtest.OwnerOf(n), ref); err != nil {
				t.Error(err)
			}
		}
	}
}
