package files

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"behalf/internal/blob"
	"behalf/internal/blob/blobtest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("BEHALF_TEST_CRASH"); dir != "" {
		crash(dir)
		return
	}
	os.Exit(m.Run())
}

func crashSize(n int) int { return n * 7919 % 30_000 }

// crash stores bodies until it is killed, and says what was acknowledged.
func crash(dir string) {
	s, err := Open(dir, Options{SegmentSize: 1 << 20, SmallBody: 25_000})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	var out sync.Mutex
	for g := range 20 {
		go func() {
			for i := 0; ; i++ {
				n := g*100_000 + i
				ref, err := s.Put(bg, blobtest.OwnerOf(n), blobtest.Bytes(blobtest.BodyOf(n, crashSize(n))))
				out.Lock()
				if err != nil {
					fmt.Println("error", err)
				} else {
					fmt.Println(n, ref.Segment, ref.Offset, ref.Size)
				}
				out.Unlock()
			}
		}()
	}
	select {}
}

func TestKilled(t *testing.T) {
	dir := t.TempDir()
	acknowledged := 0
	for range 3 {
		refs := map[int]blob.Ref{}
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), "BEHALF_TEST_CRASH="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		var kill *time.Timer // once it has begun to acknowledge, however long that takes
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if kill == nil {
				kill = time.AfterFunc(time.Duration(rand.IntN(400))*time.Millisecond, func() { _ = child.Process.Kill() })
			}
			var n int
			var ref blob.Ref
			if _, err := fmt.Sscan(lines.Text(), &n, &ref.Segment, &ref.Offset, &ref.Size); err != nil {
				t.Errorf("the child says %q", lines.Text())
				continue
			}
			refs[n] = ref
		}
		_ = child.Wait()
		s := open(t, dir, Options{})
		for n, ref := range refs {
			check(t, s, n, ref)
		}
		shut(t, s)
		acknowledged += len(refs)
	}
	if acknowledged == 0 {
		t.Error("nothing was acknowledged")
	}
}

// room gives the sum of the files in a directory, in octets.
func room(t testing.TB, dir string) (sum int64) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil
		}
		if info, err := e.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	return sum
}

// noOwner fails the test: these segments must go without asking.
func noOwner(t *testing.T) func(blob.Owner, blob.Ref) (bool, error) {
	return func(o blob.Owner, r blob.Ref) (bool, error) {
		t.Errorf("asked for %x at %+v", o, r)
		return true, nil
	}
}

// A queue that flows gives the disk back at once, young as its bodies are.
func TestChurnGivesRoomBack(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{SegmentSize: 1 << 20})
	refs := map[int]blob.Ref{}
	for n := range 4000 {
		refs[n] = put(t, s, n, 10_000)
		if n >= 50 {
			if err := s.Delete(blobtest.OwnerOf(n-50), refs[n-50]); err != nil {
				t.Fatal(err)
			}
		}
		if n%100 == 99 {
			if err := s.Reclaim(bg, noOwner(t), nil); err != nil {
				t.Fatal(err)
			}
			if size := room(t, dir); size > 5<<20 {
				t.Fatalf("with 50 bodies of 10 kB there, the store takes %d MiB", size>>20)
			}
		}
	}
	for n := 3950; n < 4000; n++ {
		check(t, s, n, refs[n])
	}
}

// A few bodies that live long do not hold the segments in which they came.
func TestSparseSegmentsAreEmptied(t *testing.T) {
	dir := t.TempDir()
	o := hasty
	o.SafeAge, o.SegmentSize = 20*time.Millisecond, 1<<20
	s := open(t, dir, o)
	var owners blobtest.Owners
	for n := range 2000 {
		owners.Set(blobtest.OwnerOf(n), put(t, s, n, 10_000))
	}
	for restart := range 2 {
		for n := range 2000 {
			if _, there := owners.Ref(blobtest.OwnerOf(n)); there && n%20 != 0 && n%2 == restart {
				if err := s.Delete(blobtest.OwnerOf(n), owners.Drop(blobtest.OwnerOf(n))); err != nil {
					t.Fatal(err)
				}
			}
		}
		shut(t, s)
		s = open(t, dir, o)
		put(t, s, 5000+restart, 10)
	}
	for range 6 {
		time.Sleep(25 * time.Millisecond)
		if err := s.Reclaim(bg, owners.Alive, owners.Move); err != nil {
			t.Fatal(err)
		}
	}
	if size := room(t, dir); size > 4<<20 || owners.Moves < 50 {
		t.Errorf("100 bodies of 10 kB take %d KiB, %d were moved", size>>10, owners.Moves)
	}
	for n := 0; n < 2000; n += 20 {
		ref, _ := owners.Ref(blobtest.OwnerOf(n))
		check(t, s, n, ref)
	}
}

// What nobody came to own goes, but not while its commit may be under way.
func TestOrphans(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{SegmentSize: 10_000, SafeAge: time.Hour})
	for n := range 20 {
		put(t, s, n, 5000)
	}
	large := put(t, s, 50, 2<<20)
	var owners blobtest.Owners
	scan := func() {
		t.Helper()
		for range largeDirs/largePerCall + 1 {
			if err := s.Reclaim(bg, owners.Alive, owners.Move); err != nil {
				t.Fatal(err)
			}
		}
	}
	scan()
	check(t, s, 50, large)
	if size := room(t, s.segmentDir()); size < 100_000 {
		t.Errorf("bodies whose commit may be under way are gone: %d octets left", size)
	}
	s.opts.SafeAge = time.Nanosecond
	scan()
	if _, err := s.Open(bg, blobtest.OwnerOf(50), large); !errors.Is(err, blob.ErrCorrupt) {
		t.Errorf("a large body that nobody owns is still there: %v", err)
	}
	if size := room(t, s.segmentDir()); size > 12_000 {
		t.Errorf("bodies that nobody owns take %d octets", size)
	}
}

// Reclaim dies between the copy of a body and the move of its owner.
func TestReclaimInterrupted(t *testing.T) {
	dir := t.TempDir()
	o := hasty
	o.SafeAge = time.Millisecond
	s := open(t, dir, o)
	var owners blobtest.Owners
	for n := range 200 {
		ref := put(t, s, n, 3000)
		if n%10 == 0 {
			owners.Set(blobtest.OwnerOf(n), ref)
		}
	}
	fault := errors.New("killed")
	for round := range 4 {
		shut(t, s)
		s = open(t, dir, o)
		put(t, s, 1000+round, 10)
		time.Sleep(5 * time.Millisecond)
		left := rand.IntN(6)
		var mu sync.Mutex
		move := func(o blob.Owner, from, to blob.Ref) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			if left--; left < 0 {
				return false, fault
			}
			return owners.Move(o, from, to)
		}
		if err := s.Reclaim(bg, owners.Alive, move); err != nil && !errors.Is(err, fault) {
			t.Fatal(err)
		}
		for n := 0; n < 200; n += 10 {
			ref, _ := owners.Ref(blobtest.OwnerOf(n))
			check(t, s, n, ref)
		}
	}
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, Options{})
	if s, err := Open(dir, Options{}); err == nil {
		shut(t, s)
		t.Error("the same directory was opened twice")
	}
}

func TestTemporaryFilesGo(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	shut(t, s)
	left := filepath.Join(s.tempDir(), "body-1")
	if err := os.WriteFile(left, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir, Options{})
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a half-written body is still there: %v", err)
	}
}

func FuzzWalk(f *testing.F) {
	dir := f.TempDir()
	s := open(f, dir, Options{})
	for n := range 3 {
		put(f, s, n, 100*n)
	}
	shut(f, s)
	b, err := os.ReadFile(s.segmentPath(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:50])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "segment")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		w := newWalker(openFile(t, path), 1)
		for last := int64(0); ; {
			fr, _, err := w.next()
			if err != nil {
				return
			}
			if fr.offset < last {
				t.Fatal("it goes backwards")
			}
			last = fr.end()
		}
	})
}

func BenchmarkPut(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10} {
		for _, writers := range []int{1, 20, 100} {
			b.Run(fmt.Sprintf("%d KiB, %d writers", size>>10, writers), func(b *testing.B) {
				s := open(b, b.TempDir(), Options{})
				body := blobtest.Bytes(blobtest.BodyOf(1, size))
				next := make(chan int)
				var all sync.WaitGroup
				b.ReportAllocs()
				b.ResetTimer()
				for range writers {
					all.Go(func() {
						for n := range next {
							ref, err := s.Put(bg, blobtest.OwnerOf(n), body)
							if err != nil {
								b.Error(err)
							}
							_ = s.Delete(blobtest.OwnerOf(n), ref)
							if n%5000 == 4999 {
								_ = s.Reclaim(bg, nil, nil)
							}
						}
					})
				}
				for n := range b.N {
					next <- n
				}
				close(next)
				all.Wait()
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "bodies/s")
				b.ReportMetric(float64(b.N)/float64(s.write.syncs.Load()), "bodies/sync")
			})
		}
	}
}
