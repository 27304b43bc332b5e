package files

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"behalf/internal/blob"
	"behalf/internal/blob/blobtest"
	"behalf/internal/fsync"
)

func begin(t testing.TB, s *Store, n, size int) (blob.Ref, *pending) {
	t.Helper()
	ref, p, err := s.Begin(bg, blobtest.OwnerOf(n), blobtest.Bytes(blobtest.BodyOf(n, size)))
	if err != nil {
		t.Fatal(err)
	}
	return ref, p.(*pending)
}

// disk is fdatasync in the hands of a test: a sync is under way until it is told
// how it ended.
type disk struct {
	begun chan string // the file's name
	end   chan error
}

func slowDisk(s *Store) *disk {
	d := &disk{begun: make(chan string, 100), end: make(chan error)}
	s.write.sync = func(f *os.File) error { // the writer is idle
		d.begun <- filepath.Base(f.Name())
		return <-d.end
	}
	return d
}

func done(p *pending) bool {
	select {
	case <-p.group.done:
		return true
	default:
		return false
	}
}

// A sync begins by itself. What is written while it is under way has its place
// at once, waits for the next, and one sync is enough for all of it.
func TestSyncsOverlapWrites(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, dir, Options{})
		d := slowDisk(s)
		_, first := begin(t, s, 1, 100)
		<-d.begun // and nobody waits for it
		var later []*pending
		for n := range 10 {
			ref, p := begin(t, s, 10+n, 100)
			check(t, s, 10+n, ref)
			later = append(later, p)
		}
		synctest.Wait()
		if done(first) || done(later[0]) {
			t.Error("a body is stable before its sync is done")
		}
		d.end <- nil
		if err := first.Wait(); err != nil {
			t.Error(err)
		}
		<-d.begun
		synctest.Wait()
		for _, p := range later {
			if done(p) {
				t.Error("a body is stable by a sync that began before it was written")
			}
		}
		d.end <- nil
		for _, p := range later {
			if err := p.Wait(); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if n := s.write.syncs.Load(); n != 2 {
			t.Errorf("%d syncs", n)
		}
		shut(t, s)
	})
}

// After a failed sync nothing in the segment that was not stable before becomes
// so, not even what was written while the sync was under way; what comes later
// goes elsewhere.
func TestFailedSyncTakesWhatFollowsInTheSegment(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, dir, Options{})
		before := put(t, s, 1, 100)
		d, fault := slowDisk(s), errors.New("disk on fire")
		_, first := begin(t, s, 2, 100)
		<-d.begun
		_, second := begin(t, s, 3, 100)
		d.end <- fault
		for _, p := range []*pending{first, second} {
			if err := p.Wait(); !errors.Is(err, fault) {
				t.Errorf("Wait gives %v", err)
			}
		}
		after, p := begin(t, s, 4, 100)
		if after.Segment == before.Segment {
			t.Error("a segment whose sync failed is written again")
		}
		<-d.begun
		d.end <- nil
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
		check(t, s, 1, before)
		check(t, s, 4, after)
		s.write.sync = fsync.Data
		shut(t, s)
	})
}

// A frame that cannot be written is refused alone: those written before it in
// the same segment are synced, and one after it finds a segment.
func TestFailedWriteRefusesItsFrameAlone(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, dir, Options{})
		put(t, s, 1, 100)
		d := slowDisk(s)
		firstRef, first := begin(t, s, 2, 100)
		<-d.begun
		secondRef, second := begin(t, s, 3, 100)
		good := s.write.out.file
		s.write.out.file = openFile(t, good.Name()) // not for writing; fdatasync minds nothing
		if _, p, err := s.Begin(bg, blobtest.OwnerOf(4), blobtest.Bytes("x")); !errors.Is(err, syscall.EBADF) || p != nil {
			t.Errorf("a failed write gives %v, %v", p, err)
		}
		thirdRef, third := begin(t, s, 5, 100)
		if thirdRef.Segment == firstRef.Segment {
			t.Error("a segment that cannot be written is written")
		}
		for range 3 {
			d.end <- nil
		}
		for _, p := range []*pending{first, second, third} {
			if err := p.Wait(); err != nil {
				t.Error(err)
			}
		}
		check(t, s, 2, firstRef)
		check(t, s, 3, secondRef)
		check(t, s, 5, thirdRef)
		_ = good.Close()
		shut(t, s)
	})
}

// What is not yet on its way to the disk is bounded; a writer waits for room as
// long as its context lasts.
func TestUnsyncedIsBounded(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, dir, Options{})
		d := slowDisk(s)
		begin(t, s, 0, 10)
		<-d.begun
		for n := range maxGroup {
			begin(t, s, 1+n, 10)
		}
		ctx, cancel := context.WithCancel(bg)
		var refused, written atomic.Int32
		go func() {
			if _, _, err := s.Begin(ctx, blobtest.OwnerOf(1000), blobtest.Bytes("x")); errors.Is(err, context.Canceled) {
				refused.Add(1)
			}
		}()
		for n := range 3 {
			go func() {
				if _, _, err := s.Begin(bg, blobtest.OwnerOf(1001+n), blobtest.Bytes("x")); err == nil {
					written.Add(1)
				}
			}()
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		if refused.Load() != 1 || written.Load() != 0 {
			t.Errorf("behind %d frames %d were given up, %d written", maxGroup, refused.Load(), written.Load())
		}
		d.end <- nil
		<-d.begun
		synctest.Wait()
		if written.Load() != 3 {
			t.Errorf("there is room, and %d of 3 were written", written.Load())
		}
		d.end <- nil
		<-d.begun
		d.end <- nil
		shut(t, s)
	})
}

// A body that nobody owns yet is not dropped with its segment.
func TestReclaimKeepsWhatIsPending(t *testing.T) {
	s := open(t, t.TempDir(), Options{SegmentSize: 1000})
	ref, p := begin(t, s, 1, 2000)
	put(t, s, 2, 2000) // so that the first segment is sealed and not the highest
	if err := s.Reclaim(bg, noOwner(t), nil); err != nil {
		t.Fatal(err)
	}
	check(t, s, 1, ref)
	if err := errors.Join(p.Wait(), s.Delete(blobtest.OwnerOf(1), ref), s.Reclaim(bg, noOwner(t), nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.segmentPath(ref.Segment)); err == nil {
		t.Error("its body was deleted, and the segment is there")
	}
}

// After a power cut a body is whole, or torn at any octet, or its file is not
// there. Whole tells, and a body that is whole is synced, being written again.
func TestWhole(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	put(t, s, 1, 50)
	ref, p := begin(t, s, 2, 100)
	nextRef, next := begin(t, s, 3, 70)
	token, path := p.Token(), s.segmentPath(ref.Segment)
	if err := errors.Join(p.Wait(), next.Wait()); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	s = open(t, dir, Options{})
	syncs := 0
	s.write.sync = func(f *os.File) error {
		if f.Name() == path {
			syncs++
		}
		return nil
	}
	is := func(want bool, how string, at int64) {
		t.Helper()
		syncs = 0
		if whole, err := s.Whole(token); err != nil || whole != want || whole != (syncs == 1) {
			t.Errorf("%s at octet %d: whole is %t after %d syncs: %v", how, at, whole, syncs, err)
		}
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	is(true, "untouched", 0)
	end := ref.Offset + frameHeader + ref.Size
	for at := ref.Offset; at < end; at++ {
		for how, torn := range map[string][]byte{
			"cut off":  good[:at],
			"zeros":    append(bytes.Clone(good[:at]), make([]byte, int64(len(good))-at)...),
			"a bit":    flip(good, at),
			"a hole":   append(append(bytes.Clone(good[:ref.Offset]), make([]byte, at+1-ref.Offset)...), good[at+1:]...),
			"not ours": append(bytes.Clone(good[:at]), blobtest.BodyOf(7, int(end-at))...),
		} {
			if bytes.Equal(torn, good) || int64(len(torn)) >= end && bytes.Equal(torn[ref.Offset:end], good[ref.Offset:end]) {
				continue // it ended in zeros
			}
			change(t, path, func([]byte) []byte { return torn })
			is(false, how, at)
		}
	}
	for name, behind := range map[string][]byte{"nothing": nil, "a torn frame": good[end : end+20], "zeros": make([]byte, 4096)} {
		change(t, path, func([]byte) []byte { return append(bytes.Clone(good[:end]), behind...) })
		is(true, "whole with "+name+" behind it", end)
	}
	change(t, path, func([]byte) []byte { return good })
	is(true, "put back", 0)
	check(t, s, 2, ref)
	check(t, s, 3, nextRef)
	fault := errors.New("disk on fire")
	s.write.sync = func(*os.File) error { return fault }
	if whole, err := s.Whole(token); !errors.Is(err, fault) || whole {
		t.Errorf("a body that cannot be synced: %t, %v", whole, err)
	}
	s.write.sync = fsync.Data
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	// The newest segment is never reclaimed: so the folder is not what it was.
	if whole, err := s.Whole(token); err == nil || whole {
		t.Errorf("without the newest segment: %t, %v", whole, err)
	}
	s.segments[2] = &segment{number: 2}
	is(false, "without a segment that was reclaimed", 0)
	delete(s.segments, 2)
	for _, bad := range [][]byte{nil, {}, token[:len(token)-1], append(bytes.Clone(token), 0), flip(token, 0), make([]byte, len(token))} {
		if whole, err := s.Whole(bad); err == nil || whole {
			t.Errorf("the token %x: %t, %v", bad, whole, err)
		}
	}
}

func flip(b []byte, at int64) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// A place that was taken back and given to another body is not the first one's.
func TestWholeOfAnotherBody(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	_, p := begin(t, s, 1, 100)
	for i := range p.token {
		token := flip(p.token[:], int64(i))
		if whole, err := s.Whole(token); whole {
			t.Errorf("octet %d of the token is another, and it is whole: %v", i, err)
		}
	}
	if whole, err := s.Whole(p.Token()); err != nil || !whole {
		t.Errorf("its own token: %t, %v", whole, err)
	}
}
