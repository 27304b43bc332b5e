package aside

import (
	"crypto"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkSign compares crypto/rsa with the host's OpenSSL aside: CPU is that of
// this process and, once it has ended, of the helper, with its start.
func BenchmarkSign(b *testing.B) {
	k := keyOf(b, 2048)
	for _, callers := range []int{1, 20, 100} {
		b.Run(fmt.Sprintf("by=go/callers=%d", callers), func(b *testing.B) {
			before := cpu(b)
			load(b, k, callers)
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
		})
		b.Run(fmt.Sprintf("by=openssl/callers=%d", callers), func(b *testing.B) {
			before := cpu(b)
			h := started(b, "openssl", patient)
			up(b, h, 0)
			load(b, h.Key(k), callers)
			h.stop()
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
		})
	}
}

// load has callers make b.N signatures in all.
func load(b *testing.B, s crypto.Signer, callers int) {
	b.ReportAllocs()
	b.ResetTimer()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for {
				n := int(next.Add(1))
				if n > b.N {
					return
				}
				if _, err := s.Sign(rand.Reader, digest(n), crypto.SHA256); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
}

// cpu is the processor time of this process and of its children that have ended.
func cpu(b *testing.B) (sum time.Duration) {
	b.Helper()
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}
