package dispatch

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"behalf/internal/blob"
	"behalf/internal/blob/files"
	"behalf/internal/kv/badger"
	"behalf/mail"
	"behalf/spool"
	"behalf/upstream"
)

// reader is a planner and a way out that read the message and take it.
type reader struct {
	swift
	size  int
	taken *atomic.Int64
}

func (r reader) Plan(_ context.Context, m *mail.Message, wish int) (*mail.Hop, upstream.Upstream, error) {
	return &mail.Hop{Upstream: m.Wishes[wish].Upstream}, r, nil
}

func (r reader) Render(st *spool.Stored, _ *mail.Hop, _ int, body func(context.Context) (blob.Body, error)) func(context.Context, upstream.Caps) (upstream.Rendered, error) {
	return func(ctx context.Context, _ upstream.Caps) (upstream.Rendered, error) {
		b, err := body(ctx)
		if err != nil {
			return nil, err
		}
		_, err = b.ReadAt(make([]byte, r.size), 0)
		return nil, err
	}
}

func (r reader) Deliver(ctx context.Context, j *upstream.Job) []upstream.Result {
	rs := make([]upstream.Result, len(j.To))
	if _, err := j.Render(ctx, upstream.Caps{}); err != nil {
		rs[0].Failure = mail.AsFailure(err)
	}
	r.taken.Add(1)
	return rs
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDrain is what a message of a backlog costs that is read back from
// disk, tried and settled, of one lane and of many.
func BenchmarkDrain(b *testing.B) {
	for _, lanes := range []int{1, 1000} {
		b.Run(fmt.Sprintf("lanes=%d", lanes), func(b *testing.B) {
			store, err := badger.Open(b.TempDir(), badger.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer store.Close()
			bodies, err := files.Open(b.TempDir(), files.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer bodies.Close()
			sp, err := spool.Open(context.Background(), store, bodies, spool.Options{})
			if err != nil {
				b.Fatal(err)
			}
			text := bytes.Repeat([]byte("Subject: hello\r\n"), 256)
			puts := make(chan struct{}, 64) // at once
			for i := range b.N {
				puts <- struct{}{}
				go func() {
					defer func() { <-puts }()
					t := mail.TenantID(i%lanes + 1)
					now := time.Now()
					m := &mail.Message{ID: sp.NewID(t, now), Tenant: t, Stream: mail.StreamTransactional, Accepted: now, Expires: now.Add(96 * time.Hour), Wishes: []mail.Wish{{Upstream: office}}}
					d := sp.Draft()
					d.Write(text)
					st, err := sp.Put(context.Background(), d, m, []mail.Recipient{{Address: mail.Address{Local: "a", Domain: "b.example"}}}, nil, nil)
					if err != nil {
						b.Error(err)
						return
					}
					st.Release()
				}()
			}
			for range cap(puts) {
				puts <- struct{}{}
			}
			way := reader{size: len(text), taken: &atomic.Int64{}}
			d := New(sp, way, Options{})
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			b.ReportAllocs()
			b.ResetTimer()
			began := cpu()
			go func() { ended <- d.Run(ctx) }()
			for way.taken.Load() < int64(b.N) {
				time.Sleep(time.Millisecond)
			}
			b.ReportMetric(float64((cpu()-began).Microseconds())/float64(b.N), "cpu-us/op")
			b.StopTimer()
			cancel()
			if err := <-ended; err != nil {
				b.Fatal(err)
			}
		})
	}
}
