package dispatch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"behalf/internal/smtpclient"
	"behalf/mail"
	"behalf/upstream"
)

// pooled is a way whose attempts take sessions of one pool, a place a domain.
// Domains beginning with "good" answer; stall is how long the others hang.
func pooled(pool *smtpclient.Pool, stall func() time.Duration) way {
	return func(ctx context.Context, j *upstream.Job, to upstream.Target) upstream.Result {
		l, _, f := upstream.Lease(ctx, pool, to.To.Domain, 30*time.Second)
		if f != nil {
			return upstream.Result{Failure: f}
		}
		defer l.Release()
		hang := stall()
		if hang == 0 || strings.HasPrefix(to.To.Domain, "good") {
			return takes(50*time.Millisecond)(ctx, j, to)
		}
		select {
		case <-time.After(hang):
			return upstream.Result{Failure: unreach()}
		case <-ctx.Done():
			return upstream.Result{Failure: mail.AsFailure(ctx.Err())}
		}
	}
}

// goodMail sends messages of a quiet tenant to a destination that answers, and
// wants them delivered within a second.
func goodMail(w *world, every time.Duration) {
	w.t.Helper()
	accepted := map[mail.ID]time.Time{}
	for range 100 {
		accepted[w.send(100_000, ups(mx), "a@good.example")] = time.Now()
		time.Sleep(every)
	}
	time.Sleep(5 * time.Second)
	var took []time.Duration
	for _, a := range w.triedBy(mx) {
		if at, ok := accepted[a.who.id]; ok {
			if !a.ok {
				w.t.Errorf("an attempt at the good destination failed after %v", a.at.Sub(at))
			}
			took = append(took, a.at.Sub(at))
		}
	}
	if len(took) < len(accepted) {
		w.t.Fatalf("%d of %d messages were delivered; %d attempts wait", len(took), len(accepted), w.d.waitingNow())
	}
	slices.Sort(took)
	if p95 := took[len(took)*95/100]; p95 > time.Second {
		w.t.Errorf("accepted to delivered: p95 %v, at most %v", p95, took[len(took)-1])
	}
}

// Destinations that share the sessions of direct delivery keep no mail from each
// other, though each that hangs holds a session.
func TestManyDestinationsHang(t *testing.T) {
	for _, stall := range []time.Duration{30 * time.Second, 5 * time.Minute} {
		t.Run(stall.String(), func(t *testing.T) {
			scenario(t, Options{}, func(w *world) {
				pool := smtpclient.NewPool(smtpclient.Limits{PerKey: 10, Total: w.o.Attempts()})
				defer pool.Close()
				w.way(mx, pooled(pool, func() time.Duration { return stall }))
				for i := range 100 {
					for k := range 10 {
						w.send(mail.TenantID(i+1), ups(mx), fmt.Sprintf("a@t%d-d%d.example", i, k))
					}
					time.Sleep(time.Millisecond)
				}
				time.Sleep(5 * time.Second)
				if n := pool.Open(); n < 1000 {
					t.Errorf("%d sessions hang, want 1,000", n)
				}
				goodMail(w, 400*time.Millisecond)
			})
		})
	}
}

// A destination may have more under way than it may have sessions. When it
// hangs, those of its attempts that stand in line for them wait for it as well.
func TestDestinationsHangWithALine(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		pool := smtpclient.NewPool(smtpclient.Limits{PerKey: 10, Total: w.o.Attempts()})
		defer pool.Close()
		var hangs bool
		w.way(mx, pooled(pool, func() time.Duration {
			w.mu.Lock()
			defer w.mu.Unlock()
			if hangs {
				return 5 * time.Minute
			}
			return 0
		}))
		const sites = 40
		fill := func(n int) {
			for i := range sites * n {
				w.send(mail.TenantID(i%sites+1), ups(mx), fmt.Sprintf("a@d%d.example", i%sites))
			}
		}
		fill(100) // the windows grow
		time.Sleep(time.Minute)
		w.mu.Lock()
		hangs = true
		w.mu.Unlock()
		fill(100)
		time.Sleep(5 * time.Second)
		if n := w.d.waitingNow(); n < 512 {
			t.Errorf("%d attempts wait: too few to show anything", n)
		}
		goodMail(w, 50*time.Millisecond)
	})
}
