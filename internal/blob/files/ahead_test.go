package files

import (
	"os"
	"testing"
)

func fileSize(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// A segment is longer than its frames while small ones are written, and no
// longer than they are once it is sealed.
func TestZerosAhead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{SegmentSize: 400 << 10})
	path := s.segmentPath(1)

	put(t, s, 1, 100_000) // large: none for it
	large := int64(segmentHeader + frameHeader + 100_000)
	if got := fileSize(t, path); got != large {
		t.Errorf("with a large frame the segment has %d octets, not %d", got, large)
	}
	small := put(t, s, 2, 1000)
	if got := fileSize(t, path); got != large+aheadBy {
		t.Errorf("with a small one behind it it has %d octets, not %d", got, large+aheadBy)
	}
	put(t, s, 3, 1000)
	if got := fileSize(t, path); got != large+aheadBy {
		t.Errorf("with a second one it has %d octets, not %d", got, large+aheadBy)
	}
	put(t, s, 4, 300_000) // over what is there
	put(t, s, 5, 1000)    // no room for zeros below the size of a segment
	last := put(t, s, 6, 20_000)
	if got, end := fileSize(t, path), last.Offset+frameHeader+last.Size; last.Segment != 1 || got != end {
		t.Errorf("at its end it has %d octets, not %d", got, end)
	}

	next := put(t, s, 7, 1000)
	if next.Segment != 2 {
		t.Fatalf("the segment goes on beyond its size: %+v", next)
	}
	check(t, s, 2, small)
	shut(t, s)
	if got, end := fileSize(t, s.segmentPath(2)), next.Offset+frameHeader+next.Size; got != end {
		t.Errorf("a sealed segment has %d octets, not %d", got, end)
	}
}

// What the disk has no room for is not written ahead, and frames are taken as
// long as there is room for them.
func TestNoRoomForZeros(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	first := put(t, s, 1, 1000)
	out := s.write.out
	out.size, out.bare = out.end, true // as after a write of zeros that failed
	second := put(t, s, 2, 1000)
	if out.size != out.end || second.Segment != first.Segment {
		t.Errorf("a frame went to %+v, with %d octets behind it", second, out.size-out.end)
	}
	check(t, s, 1, first)
	check(t, s, 2, second)
}
