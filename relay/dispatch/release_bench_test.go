package dispatch

import (
	"context"
	"fmt"
	"testing"
	"time"

	"behalf/internal/kv/badger"
	"behalf/mail"
	"behalf/spool"
)

// BenchmarkBulkOperation is what a message costs that is released or cancelled
// among 20,000 that a rule holds, over the store on disk. The longest wait of a
// message that another tenant sends meanwhile is told of too.
func BenchmarkBulkOperation(b *testing.B) {
	const held = 20_000
	ops := map[string]func(*Dispatcher, context.Context, Selection, Op) (int, error){"release": (*Dispatcher).Release, "cancel": (*Dispatcher).Cancel}
	for name, do := range ops {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				w := newWorld(b, Options{})
				w.kv.Close()
				store, err := badger.Open(b.TempDir(), badger.Options{})
				if err != nil {
					b.Fatal(err)
				}
				w.kv = store
				w.open()
				load := make(chan struct{}, 64) // at once
				for i := range held {
					load <- struct{}{}
					go func() {
						w.putAs(1, ups(office), []string{fmt.Sprintf("a%d@b.example", i)}, func(_ *mail.Message, rs []mail.Recipient) {
							rs[0].State, rs[0].Reason = mail.Held, "odd"
							rs[0].HeldBy, rs[0].Rule = mail.HeldByPolicy, "message:unusual"
						})
						<-load
					}()
				}
				for range cap(load) {
					load <- struct{}{}
				}
				w.run()
				over, slowest := make(chan struct{}), make(chan time.Duration)
				go func() {
					most := time.Duration(0)
					for {
						select {
						case <-over:
							slowest <- most
							return
						case <-time.After(5 * time.Millisecond):
						}
						at := time.Now()
						w.put(2, ups(office), "a@b.example")
						most = max(most, time.Since(at))
					}
				}()
				one := mail.TenantID(1)
				b.StartTimer()
				n, err := do(w.d, context.Background(), Selection{Filter: &spool.Filter{Tenant: &one, State: mail.Held, Rule: "unusual"}}, Op{Actor: "alice", Admin: true})
				b.StopTimer()
				if n != held || err != nil {
					b.Fatal(n, err)
				}
				close(over)
				b.ReportMetric(float64((<-slowest).Microseconds())/1000, "ms-slowest-put")
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*held), "us/message")
				w.stop()
			}
		})
	}
}
