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

// hangs never answers: a hop that takes the connection and says nothing, or a
// tar pit in DATA.
func hangs(ctx context.Context, _ *upstream.Job, _ upstream.Target) upstream.Result {
	<-ctx.Done()
	return upstream.Result{Failure: mail.AsFailure(ctx.Err())}
}

// refusesAll answers each recipient with 4xx after a while.
func refusesAll(ctx context.Context, j *upstream.Job, to upstream.Target) upstream.Result {
	if r := takes(50*time.Millisecond)(ctx, j, to); r.Failure != nil {
		return r
	}
	return upstream.Result{Failure: greylisted()}
}

// flood has a tenant queue n messages, to as many domains as are given.
func (w *world) flood(tenant mail.TenantID, n, domains int, by ...mail.UpstreamID) {
	for i := range n {
		w.send(tenant, by, fmt.Sprintf("a@d%d.example", i%domains))
		if i%100 == 0 {
			time.Sleep(time.Millisecond) // ids of one millisecond differ by chance only
		}
	}
}

// Whatever one tenant queues, and whatever becomes of it, another tenant's mail
// leaves within a second of being accepted.
func TestNoisyNeighbours(t *testing.T) {
	const quiet = mail.TenantID(1000)
	for name, noise := range map[string]func(w *world){
		"20,000 by the same hop": func(w *world) { w.flood(1, 20_000, 1, platform) },
		"3,000 by the same hop, in 500 lanes of ten tenants": func(w *world) {
			for i := range 10 {
				w.flood(mail.TenantID(i), 300, 50, platform)
			}
		},
		"a hop that hangs": func(w *world) {
			w.way(office, hangs)
			w.flood(1, 3000, 1, office)
		},
		"a hop that hangs after it was good": func(w *world) {
			w.flood(1, 2000, 1, office)
			w.way(office, hangs)
			w.flood(1, 2000, 1, office)
		},
		"hops of twenty tenants that hang": func(w *world) {
			w.way(office, hangs)
			for i := range 20 {
				w.flood(mail.TenantID(i), 150, 1, office)
			}
		},
		"400 destinations that hang": func(w *world) {
			w.way(mx, hangs)
			w.flood(1, 3000, 400, mx)
		},
		"a destination that answers 4xx to all": func(w *world) {
			w.way(mx, refusesAll)
			w.flood(1, 3000, 1, mx)
		},
		"a hop that answers 4xx to all": func(w *world) {
			w.way(office, refusesAll)
			w.flood(1, 3000, 1, office)
		},
		"a hop that is down": func(w *world) {
			w.way(office, fails(unreach))
			w.flood(1, 3000, 1, office, platform)
		},
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, Options{}, func(w *world) {
				w.way(platform, takes(50*time.Millisecond))
				noise(w)
				accepted := map[mail.ID]time.Time{}
				for range 300 {
					accepted[w.send(quiet, ups(platform), "a@b.example")] = time.Now()
					time.Sleep(100 * time.Millisecond)
				}
				time.Sleep(10 * time.Second)
				var took []time.Duration
				for _, a := range w.triedBy(platform) {
					if a.tenant == quiet {
						took = append(took, a.at.Sub(accepted[a.who.id]))
					}
				}
				if len(took) != len(accepted) {
					t.Fatalf("%d of %d messages were delivered", len(took), len(accepted))
				}
				slices.Sort(took)
				p50, p95, most := took[len(took)/2], took[len(took)*95/100], took[len(took)-1]
				t.Logf("p50 %v, p95 %v, at most %v", p50, p95, most)
				if p95 > time.Second {
					t.Errorf("accepted to delivered: p50 %v, p95 %v, at most %v", p50, p95, most)
				}
			})
		})
	}
}
