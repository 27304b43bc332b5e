package dispatch

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"behalf/mail"
	"behalf/upstream"
)

// silent is a hop that takes the connection and says nothing until the client's
// own time-out.
func silent(ctx context.Context, _ *upstream.Job, _ upstream.Target) upstream.Result {
	select {
	case <-time.After(5 * time.Minute):
		return upstream.Result{Failure: unreach()}
	case <-ctx.Done():
		return upstream.Result{Failure: mail.AsFailure(ctx.Err())}
	}
}

// However many hops hang, those that answer are served within a second; and
// when they answer again, so are theirs. All is a quarter of the usual size.
func TestManyHopsHang(t *testing.T) {
	for _, c := range []struct {
		name    string
		tenants int
		each    int // messages
		way     mail.UpstreamID
		lanes   int // destinations of each
	}{
		{"75 connections", 75, 30, office, 1},
		{"375 connections", 375, 2, office, 1},
		{"100 destinations of each of 25 tenants", 25, 100, mx, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			scenario(t, Options{Workers: 128}, func(w *world) {
				const quiet = mail.TenantID(100_000)
				w.way(platform, takes(50*time.Millisecond))
				w.way(c.way, silent)
				for i := range c.tenants {
					for k := range c.each {
						w.send(mail.TenantID(i+1), ups(c.way), fmt.Sprintf("a@t%d-d%d.example", i, k%c.lanes))
					}
					time.Sleep(time.Millisecond)
				}
				accepted := map[mail.ID]time.Time{}
				for range 300 {
					accepted[w.send(quiet, ups(platform), "a@b.example")] = time.Now()
					time.Sleep(100 * time.Millisecond)
				}
				time.Sleep(5 * time.Second)
				var took []time.Duration
				for _, a := range w.triedBy(platform) {
					took = append(took, a.at.Sub(accepted[a.who.id]))
				}
				if len(took) != len(accepted) {
					t.Fatalf("%d of %d messages were delivered", len(took), len(accepted))
				}
				slices.Sort(took)
				p95, most := took[len(took)*95/100], took[len(took)-1]
				if t.Logf("p95 %v, at most %v; %d wait", p95, most, w.d.waitingNow()); p95 > time.Second {
					t.Errorf("accepted to delivered: p95 %v, at most %v", p95, most)
				}
				w.way(c.way, nil)
				time.Sleep(20 * time.Minute)
				tried := map[mail.ID]bool{}
				for _, a := range w.triedBy(c.way) {
					tried[a.who.id] = tried[a.who.id] || a.ok
				}
				for id, ok := range tried {
					if !ok {
						t.Fatalf("%s was not delivered when its hop was good again", id)
					}
				}
				if len(tried) != c.tenants*c.each {
					t.Errorf("%d of %d messages were tried", len(tried), c.tenants*c.each)
				}
				if n := w.d.waitingNow(); n != 0 {
					t.Errorf("%d are still in the waiting account", n)
				}
			})
		})
	}
}

// waitingNow is the size of the waiting account, checked against its parts.
func (d *Dispatcher) waitingNow() (n int) {
	_ = d.call(context.Background(), func(time.Time) {
		if n = d.waiting; n > d.o.Waiting || d.busy-n > d.o.Workers || d.workers > max(d.busy, d.o.Workers) {
			panic(fmt.Sprintf("%d wait; %d under way by %d goroutines", n, d.busy, d.workers))
		}
	})
	return n
}

// While workers are left an attempt counts as one for a second.
func TestWaitsAfterASecond(t *testing.T) {
	scenario(t, Options{Workers: 4}, func(w *world) {
		w.way(office, silent)
		for i := range 3 {
			w.send(mail.TenantID(i+1), ups(office), "a@b.example")
		}
		time.Sleep(waitsAfter - time.Millisecond)
		if n := w.d.waitingNow(); n != 0 {
			t.Errorf("%d wait before a second is over", n)
		}
		time.Sleep(2 * time.Millisecond)
		if n := w.d.waitingNow(); n != 3 {
			t.Errorf("%d wait after a second, want 3", n)
		}
	})
}

// The account has a bound: beyond it attempts count as workers to their end.
func TestWaitingAccount(t *testing.T) {
	scenario(t, Options{Workers: 4, Waiting: 8, PerTenant: 100}, func(w *world) {
		w.way(office, silent)
		for i := range 30 {
			w.send(mail.TenantID(i+1), ups(office), "a@b.example")
		}
		for _, want := range []struct {
			after time.Duration
			tries int
			wait  int
		}{{waitsEarly / 2, 4, 0}, {waitsEarly, 8, 4}, {waitsEarly, 12, 8}, {time.Minute, 12, 8}} {
			time.Sleep(want.after)
			if n, tries := w.d.waitingNow(), w.atOnce(office); n != want.wait || tries != want.tries {
				t.Errorf("%d attempts, of which %d wait; want %d and %d", tries, n, want.tries, want.wait)
			}
		}
		still := 0
		for _, q := range w.d.Queues(context.Background()) {
			if q.Limit == LimitWorkers {
				still++
			}
		}
		if still != 18 {
			t.Errorf("%d queues say that they wait for a worker, want 18", still)
		}
	})
}

// A site that answers is no site that hangs, however long some of it takes: it
// goes on while the account is crowded.
func TestSlowGoesOnWhileCrowded(t *testing.T) {
	scenario(t, Options{Workers: 8, Waiting: 32, PerTenant: 100}, func(w *world) {
		w.way(office, silent)
		w.way(platform, takes(3*time.Second))
		for i := range 16 {
			w.send(mail.TenantID(i+1), ups(office), "a@b.example")
		}
		time.Sleep(5 * time.Second)
		for range 40 {
			w.send(99, ups(platform), "a@b.example")
		}
		time.Sleep(90 * time.Second)
		if n := len(w.triedBy(platform)); n != 40 {
			t.Errorf("%d of 40 messages went by the slow hop", n)
		}
	})
}
