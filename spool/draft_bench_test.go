package spool

import (
	"fmt"
	"testing"
)

// BenchmarkDraft is what it costs to gather a body that comes in by 16 KiB, its
// size known before or not.
func BenchmarkDraft(b *testing.B) {
	s := openSpool(b, memStore(b), newBodies(), Options{})
	piece := make([]byte, 16<<10)
	for _, size := range []int64{4 << 10, 66_000} {
		for _, said := range []int64{0, size} {
			b.Run(fmt.Sprintf("size=%d/said=%d", size, said), func(b *testing.B) {
				b.ReportAllocs()
				for range b.N {
					d := s.Draft()
					d.Expect(said)
					for d.Size() < size {
						d.Write(piece[:min(int64(len(piece)), size-d.Size())])
					}
					d.Discard()
				}
			})
		}
	}
}
