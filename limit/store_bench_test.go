package limit

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

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
