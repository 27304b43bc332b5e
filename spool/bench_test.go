package spool

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"behalf/mail"
)

// BenchmarkPut accepts messages of 4 KiB on Badger and files, with a settle
// for each, from several goroutines.
func BenchmarkPut(b *testing.B) {
	for _, workers := range []int{1, 20, 100} {
		for _, settles := range []bool{false, true} {
			name := fmt.Sprintf("%d goroutines", workers)
			if settles {
				name += " and settle"
			}
			b.Run(name, func(b *testing.B) { benchPut(b, workers, settles) })
		}
	}
}

func benchPut(b *testing.B, workers int, settles bool) {
	s := openDisk(b, b.TempDir(), Options{})
	defer s.close(b)
	body := bytes.Repeat([]byte("0123456789abcde\n"), 256)
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	b.ResetTimer()
	cpu := reportCPU(b)
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg, settled sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				m, rs := benchMessage(s.Spool)
				d := s.Draft()
				d.Write(body)
				st, err := s.Put(context.Background(), d, m, rs, nil, nil)
				if err != nil {
					panic(err)
				}
				st.Release()
				if settles {
					settled.Add(1)
					s.Settle(delivered(st, 0), func(err error) {
						if err != nil {
							panic(err)
						}
						settled.Done()
					})
				}
			}
		})
	}
	wg.Wait()
	settled.Wait()
	b.StopTimer()
	cpu()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// reportCPU adds the CPU time of the process to what b reports, which is what
// counts on a machine with other work. It is called where the timer starts, and
// what it gives where it stops.
func reportCPU(b *testing.B) (stop func()) {
	used := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	began := used()
	return func() { b.ReportMetric(float64(used()-began)/float64(b.N), "cpu-ns/op") }
}

func benchMessage(s *Spool) (*mail.Message, []mail.Recipient) {
	m := sampleMessage()
	at := now()
	m.ID, m.Accepted, m.Expires = s.NewID(42, at), at, at.Add(96*time.Hour)
	return m, []mail.Recipient{{Address: mail.Address{Local: "user", Domain: "dest.example"}}}
}

// BenchmarkFlat measures Put, Settle and Due with little and with much queued:
// the times must not differ. BEHALF_BENCH_QUEUED sets the larger number.
func BenchmarkFlat(b *testing.B) {
	large := 200_000
	if n, err := strconv.Atoi(os.Getenv("BEHALF_BENCH_QUEUED")); err == nil {
		large = n
	}
	for _, queued := range []int{1000, large} {
		s := openDisk(b, b.TempDir(), Options{})
		began := time.Now()
		fill(b, s.Spool, queued)
		b.Logf("%d queued in %v", queued, time.Since(began).Round(time.Millisecond))
		for _, c := range []struct {
			name string
			do   func(b *testing.B, s *Spool)
		}{{"put", flatPut}, {"settle", flatSettle}, {"due", flatDue}, {"timers", flatTimers}, {"load", flatLoad}} {
			b.Run(fmt.Sprintf("%d/%s", queued, c.name), func(b *testing.B) {
				defer reportCPU(b)()
				c.do(b, s.Spool)
			})
		}
		b.Run(fmt.Sprintf("%d/queues at start", queued), func(b *testing.B) { flatQueues(b, s.Spool) })
		s.close(b)
	}
}

// BenchmarkRestart opens store and spool with much queued, and tells how long
// it takes: to open both, the spool alone, and to find all queues.
func BenchmarkRestart(b *testing.B) {
	queued := 100_000
	if n, err := strconv.Atoi(os.Getenv("BEHALF_BENCH_QUEUED")); err == nil {
		queued = n
	}
	dir := b.TempDir()
	s := openDisk(b, dir, Options{})
	fill(b, s.Spool, queued)
	s.close(b)
	b.ResetTimer()
	for b.Loop() {
		runtime.GC()
		began := time.Now()
		s := openDisk(b, dir, Options{})
		opened := time.Now()
		again, err := Open(b.Context(), s.kv, s.bodies, Options{})
		if err != nil {
			b.Fatal(err)
		}
		spool := time.Since(opened)
		found := time.Now()
		if err := again.Queues(b.Context(), later, func(Queue, time.Time, int) bool { return true }); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(found).Milliseconds()), "ms-queues")
		runtime.GC()
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		b.ReportMetric(float64(opened.Sub(began).Milliseconds()), "ms-open")
		b.ReportMetric(float64(spool.Microseconds())/1000, "ms-spool")
		b.ReportMetric(float64(mem.HeapAlloc>>20), "MiB-heap")
		s.close(b)
	}
}

// fill queues n messages of 10 tenants, 100 in a lane, many in one transaction.
func fill(b testing.TB, s *Spool, n int) {
	b.Helper()
	const together = 200
	for i := 0; i < n; i += together {
		var ps []*prepared
		for k := i; k < min(i+together, n); k++ {
			m, rs := benchMessage(s)
			m.Tenant = mail.TenantID(k % 10)
			m.ID = s.NewID(m.Tenant, m.Accepted)
			rs[0].Address.Domain = fmt.Sprintf("d%d.example", k%(n/100))
			rs[0].Next = m.Accepted.Add(time.Duration(k) * time.Millisecond)
			p, err := s.prepare(m, rs, nil, nil)
			if err != nil {
				b.Fatal(err)
			}
			p.head.Body.Size = 5
			ps = append(ps, p)
		}
		err := s.update(context.Background(), func(t *tx) error {
			for _, p := range ps {
				if err := t.put(p); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func flatPut(b *testing.B, s *Spool) {
	b.ReportAllocs()
	for b.Loop() {
		m, rs := benchMessage(s)
		d := s.Draft()
		d.Write([]byte("short"))
		st, err := s.Put(context.Background(), d, m, rs, nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		st.Release()
	}
}

func flatSettle(b *testing.B, s *Spool) {
	ids := some(b, s)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		st, err := s.Load(context.Background(), ids[i%len(ids)])
		if err != nil {
			b.Fatal(err)
		}
		if err := s.SettleNow(context.Background(), []Outcome{deferred(st, 0, now().Add(time.Hour))}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWide settles one recipient after the other of messages that have 64.
func BenchmarkWide(b *testing.B) {
	st := &nothing{rows: map[string][]byte{}, end: make(chan struct{})}
	s, err := Open(b.Context(), st, noBodies{}, Options{})
	if err != nil {
		b.Fatal(err)
	}
	var m *mail.Message
	var rs []mail.Recipient
	b.ReportAllocs()
	defer reportCPU(b)()
	for n := range b.N {
		i := n % chunkSize
		if i == 0 {
			clear(st.rows)
			m, _ = benchMessage(s)
			rs = nil
			for k := range chunkSize {
				rs = append(rs, mail.Recipient{Address: mail.Address{Local: "user", Domain: fmt.Sprintf("d%d.example", k)}})
			}
			d := s.Draft()
			if _, err := s.Put(b.Context(), d, m, rs, nil, nil); err != nil {
				b.Fatal(err)
			}
		}
		r := rs[i]
		r.State = mail.Delivered
		if err := s.SettleNow(b.Context(), []Outcome{{ID: m.ID, Changes: []Change{{Index: i, Recipient: r}}}}); err != nil {
			b.Fatal(err)
		}
	}
}

func flatDue(b *testing.B, s *Spool) {
	q := Queue{"mx|d7.example|transactional", 7}
	var behind *Due
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		ds, err := s.Due(context.Background(), q, behind, 64)
		if err != nil {
			b.Fatal(err)
		}
		behind = nil
		if len(ds) > 0 {
			behind = &ds[len(ds)-1]
		}
	}
}

func flatTimers(b *testing.B, s *Spool) {
	for b.Loop() {
		if _, err := s.Timers(context.Background(), time.Now(), 64); err != nil {
			b.Fatal(err)
		}
	}
}

func flatLoad(b *testing.B, s *Spool) {
	ids := some(b, s)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		if _, err := s.Load(context.Background(), ids[i%len(ids)]); err != nil {
			b.Fatal(err)
		}
	}
}

func flatQueues(b *testing.B, s *Spool) {
	for b.Loop() {
		began := time.Now()
		var first time.Duration
		n := 0
		err := s.Queues(context.Background(), later, func(_ Queue, _ time.Time, entries int) bool {
			if n == 0 {
				first = time.Since(began)
			}
			n += entries
			return true
		})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(first.Microseconds()), "µs-to-first")
		b.ReportMetric(float64(n), "entries")
	}
}

// some gives the ids of up to 500 queued messages.
func some(b *testing.B, s *Spool) []mail.ID {
	b.Helper()
	var ids []mail.ID
	for i := range 10 {
		ds, err := s.Due(context.Background(), Queue{mail.Lane(fmt.Sprintf("mx|d%d.example|transactional", i)), mail.TenantID(i)}, nil, 50)
		if err != nil {
			b.Fatal(err)
		}
		for _, d := range ds {
			ids = append(ids, d.ID)
		}
	}
	slices.SortFunc(ids, func(a, b mail.ID) int { return bytes.Compare(a[:], b[:]) })
	return ids
}
