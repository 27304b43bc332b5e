package dispatch

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"behalf/internal/blob"
	"behalf/mail"
	"behalf/spool"
	"behalf/upstream"
)

// instant is a spool that forgets: only what dispatch itself costs is left.
type instant struct {
	settled atomic.Int64
	done    chan struct{}
	want    int64
	room    chan struct{} // one for each message under way: it has no due index to find more in
}

func (s *instant) Settle(o spool.Outcome, done func(error)) {
	done(nil)
	<-s.room
	if s.settled.Add(1) == s.want {
		close(s.done)
	}
}
func (s *instant) SettleNow(context.Context, []spool.Outcome) error { return nil }
func (s *instant) Load(context.Context, mail.ID) (*spool.Stored, error) {
	return nil, spool.ErrNotFound
}
func (s *instant) OpenBody(context.Context, *spool.Stored) (blob.Body, error) { return nil, nil }
func (s *instant) Queues(context.Context, time.Time, func(spool.Queue, time.Time, int) bool) error {
	return nil
}
func (s *instant) Due(context.Context, spool.Queue, *spool.Due, int) ([]spool.Due, error) {
	return nil, nil
}
func (s *instant) TimersAfter(context.Context, time.Time, *spool.Timer, int) ([]spool.Timer, error) {
	return nil, nil
}
func (s *instant) Candidates(context.Context, spool.Filter, string, int) ([]mail.ID, string, error) {
	return nil, "", nil
}

// swift is a planner and a way out that take no time.
type swift struct{}

func (swift) Plan(_ context.Context, m *mail.Message, wish int) (*mail.Hop, upstream.Upstream, error) {
	return &mail.Hop{Upstream: m.Wishes[wish].Upstream}, swift{}, nil
}
func (swift) Sender(*mail.Message, *mail.Hop, int) mail.Address { return mail.Address{} }
func (swift) Render(*spool.Stored, *mail.Hop, int, func(context.Context) (blob.Body, error)) func(context.Context, upstream.Caps) (upstream.Rendered, error) {
	return nil
}
func (swift) Suppressed(context.Context, *mail.Message, *mail.Recipient) (string, bool, error) {
	return "", false, nil
}

func (swift) Site(_ context.Context, _ *mail.Message, lane mail.Lane) (string, error) {
	return string(lane), nil
}
func (swift) Traits() upstream.Traits { return upstream.Traits{} }
func (swift) Deliver(_ context.Context, j *upstream.Job) []upstream.Result {
	return make([]upstream.Result, len(j.To))
}

// BenchmarkDispatch is what a message costs from Offer to its settled outcome,
// without the spool: of one tenant and lane, of many tenants, and to many
// destinations, each of which is a lane and a site. Each tenant or destination
// has had a message before.
func BenchmarkDispatch(b *testing.B) {
	for _, c := range []struct{ tenants, destinations int }{{1, 0}, {1000, 0}, {100_000, 0}, {1, 1000}, {1, 100_000}} {
		name := fmt.Sprintf("tenants=%d", c.tenants)
		if c.destinations > 0 {
			name = fmt.Sprintf("destinations=%d", c.destinations)
		}
		b.Run(name, func(b *testing.B) {
			before := max(c.tenants, c.destinations)
			sp := &instant{done: make(chan struct{}), want: int64(before), room: make(chan struct{}, freshMost)}
			d := New(sp, swift{}, Options{})
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- d.Run(ctx) }()
			stored := func(i int) *spool.Stored {
				now := time.Now()
				t, lane := mail.TenantID(i%c.tenants), mail.LaneFor(platform, "", mail.StreamTransactional)
				m := &mail.Message{ID: mail.NewID(0, t, now), Tenant: t, Accepted: now, Expires: now.Add(time.Hour), Wishes: []mail.Wish{{Upstream: platform}}}
				if c.destinations > 0 {
					m.Wishes[0].Upstream = mx
					lane = mail.LaneFor(mx, fmt.Sprintf("d%d.example", i%c.destinations), mail.StreamTransactional)
				}
				return &spool.Stored{Message: m, Recipients: []mail.Recipient{{State: mail.Queued, Next: now, Lane: lane}}}
			}
			live := liveHeap()
			for i := range before {
				sp.room <- struct{}{}
				d.Offer(stored(i))
			}
			<-sp.done
			perLane := float64(liveHeap()-live) / float64(before)
			sp.done, sp.want = make(chan struct{}), int64(before+b.N)
			sts := make([]*spool.Stored, b.N)
			for i := range sts {
				sts[i] = stored(i)
			}
			b.ReportAllocs()
			b.ResetTimer()
			began := cpu()
			for _, st := range sts {
				st.Message.Accepted = time.Now()
				sp.room <- struct{}{}
				d.Offer(st)
			}
			<-sp.done
			b.StopTimer()
			b.ReportMetric(float64((cpu()-began).Nanoseconds())/float64(b.N)/1000, "cpu-us/op")
			if before > 1 {
				b.ReportMetric(perLane, "B/lane")
			}
			cancel()
			<-ended
		})
	}
}

// liveHeap is what is in use after garbage was collected.
func liveHeap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkBacklog is what a message costs that goes out at once while others
// wait behind a dead hop, 1,000 or 200,000 of them, over the real spool.
func BenchmarkBacklog(b *testing.B) {
	for _, queued := range []int{1000, 200_000} {
		b.Run(fmt.Sprintf("queued=%d", queued), func(b *testing.B) {
			w := newWorld(b, Options{})
			w.way(office, fails(unreach))
			for range queued {
				w.put(1, ups(office), "a@b.example")
			}
			w.run()
			for qs := w.d.Queues(context.Background()); len(qs) == 0 || qs[0].Limit != LimitDead; qs = w.d.Queues(context.Background()) {
				time.Sleep(10 * time.Millisecond)
			}
			b.ResetTimer()
			before := len(w.triedBy(platform))
			for range b.N {
				w.send(2, ups(platform), "a@b.example")
			}
			for len(w.triedBy(platform)) < before+b.N {
				time.Sleep(100 * time.Microsecond)
			}
			b.StopTimer()
			w.stop()
		})
	}
}
