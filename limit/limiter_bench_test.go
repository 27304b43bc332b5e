package limit

import (
	"context"
	"fmt"
	"testing"
	"time"

	"behalf/internal/kv"
)

// filled is a limiter with n keys that are not full.
func filled(n int) (*Limiter, []Key) {
	l := New(Options{})
	keys := make([]Key, n)
	var r Reservation
	now := time.Now()
	for i := range keys {
		keys[i] = KeyOf("limits.rego:plan", "tenant", fmt.Sprint(i))
		l.Reserve(now, []Ask{{Key: keys[i], Rate: 1e9, Per: time.Hour, Burst: 1e9, N: 5e8}}, &r)
		r.Commit()
	}
	return l, keys
}

// BenchmarkReserve is what a message costs that falls under four limits: it must
// not grow with the keys.
func BenchmarkReserve(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n, " keys"), func(b *testing.B) {
			l, keys := filled(n)
			now := time.Now()
			b.ReportAllocs()
			b.ResetTimer()
			used := cpu(b)
			b.RunParallel(func(pb *testing.PB) {
				asks := make([]Ask, 4)
				for i := 0; pb.Next(); i++ {
					for j := range asks {
						asks[j] = Ask{Key: keys[(i*(2*j+1)*7919)%len(keys)], Rate: 1e9, Per: time.Hour, Burst: 1e9}
					}
					var r Reservation
					l.Reserve(now, asks, &r)
					r.Commit()
				}
			})
			b.ReportMetric(float64(cpu(b)-used)/float64(b.N), "user-ns/op")
		})
	}
}

func BenchmarkKeyOf(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		KeyOf("limits.rego:plan-messages", "messages", "24h0m0s", "tenant", "123456789")
	}
}

// BenchmarkSnapshot writes what 1000 messages changed, of more keys or fewer.
func BenchmarkSnapshot(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n, " keys"), func(b *testing.B) {
			l, keys := filled(n)
			store := nowhere{}
			if err := l.Snapshot(b.Context(), store); err != nil {
				b.Fatal(err)
			}
			now := time.Now()
			b.ReportAllocs()
			used := cpu(b)
			for b.Loop() {
				for i := range 1000 {
					var r Reservation
					l.Reserve(now, []Ask{{Key: keys[i], Rate: 1e9, Per: time.Hour, Burst: 1e9}}, &r)
				}
				if err := l.Snapshot(b.Context(), store); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpu(b)-used)/float64(b.N), "user-ns/op")
		})
	}
}

// nowhere is a store that takes everything and keeps nothing.
type nowhere struct{ kv.Store }

func (nowhere) View(context.Context, func(kv.Reader) error) error { return nil }

func (nowhere) Update(context.Context, func(kv.Writer) error) error { return nil }
