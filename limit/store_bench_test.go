package limit

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"behalf/internal/kv"
	"behalf/internal/kv/badger"
)

// cpu is the CPU time that the process has used in its own code.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano())
}

func limiterOf(n int) *Limiter {
	l, _ := filled(n)
	return l
}

// BenchmarkRestart writes a million keys that have all changed, as a stop does,
// and reads them back.
func BenchmarkRestart(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		l := limiterOf(n)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
		dir := b.TempDir()
		store, err := badger.Open(dir, badger.Options{})
		if err != nil {
			b.Fatal(err)
		}
		began, used := time.Now(), cpu(b)
		if err := l.Snapshot(b.Context(), store); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "write-s")
		b.ReportMetric((cpu(b) - used).Seconds(), "write-user-s")
		store.Close()
		if store, err = badger.Open(dir, badger.Options{}); err != nil {
			b.Fatal(err)
		}
		again := New(Options{})
		began, used = time.Now(), cpu(b)
		if err := again.Load(b.Context(), store); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "load-s")
		b.ReportMetric((cpu(b) - used).Seconds(), "load-user-s")
		if held, dropped := again.Keys(); held < n*99/100 {
			b.Fatal(fmt.Sprint(held, " keys came back, dropped ", dropped))
		}
		store.Close()
	}
}

// BenchmarkKeysInStore is a message that changes one limit of many and three of
// few, with rows of its own, 20 messages a commit, and a snapshot each 3,000: it
// must not grow with the keys.
func BenchmarkKeysInStore(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n, " keys"), func(b *testing.B) {
			l, keys := filled(n)
			store, err := badger.Open(b.TempDir(), badger.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer store.Close()
			if err := l.Snapshot(b.Context(), store); err != nil {
				b.Fatal(err)
			}
			now := time.Now()
			b.ResetTimer()
			used := cpu(b)
			for i := 0; i < b.N; i += 20 {
				for j := i; j < i+20; j++ {
					var r Reservation
					l.Reserve(now, []Ask{
						{Key: keys[j*7919%n], Rate: 1e9, Per: time.Hour, Burst: 1e9}, {Key: keys[0], Rate: 1e9, Per: time.Hour, Burst: 1e9},
						{Key: keys[1], Rate: 1e9, Per: time.Hour, Burst: 1e9}, {Key: keys[j%100], Rate: 1e9, Per: time.Hour, Burst: 1e9},
					}, &r)
					r.Commit()
				}
				err := store.Update(b.Context(), func(w kv.Writer) error {
					for j := i; j < i+20; j++ {
						for k, size := range []int{440, 150, 250, 250, 1} {
							key := binary.BigEndian.AppendUint64([]byte{"mrfex"[k], 0, 0, 0}, uint64(j))
							if err := w.Put(key, make([]byte, size)); err != nil {
								return err
							}
						}
					}
					return nil
				})
				if err == nil && i%3000 == 0 {
					err = l.Snapshot(b.Context(), store)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpu(b)-used)/float64(b.N)/1000, "user-us/op")
		})
	}
}
