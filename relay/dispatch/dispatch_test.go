package dispatch

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"behalf/mail"
	"behalf/spool"
	"behalf/upstream"
)

func TestDeliver(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		id := w.send(1, ups(office), "a@b.example")
		time.Sleep(time.Second)
		w.want(id, 0, mail.Delivered)
		w.wantEvents(id, mail.EventDelivered)
		if e := w.events(id)[0]; e.Attempt == nil || e.Attempt.Host != "mx.example" || e.Attempt.From != "bounce@acme.example" || e.Attempt.Method != mail.MethodDomain {
			t.Errorf("event %+v %+v", e, e.Attempt)
		}
	})
}

func TestFirstWayDownGoesByTheNext(t *testing.T) {
	for name, down := range map[string]way{
		"refused": fails(unreach),
		"blackhole": func(context.Context, *upstream.Job, upstream.Target) upstream.Result {
			time.Sleep(30 * time.Second)
			return upstream.Result{Failure: unreach()}
		},
		"credential": fails(noAuth),
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, Options{}, func(w *world) {
				w.way(office, down)
				one := w.send(1, ups(office, mx), "a@b.example")
				time.Sleep(60 * time.Second)
				w.want(one, 0, mail.Delivered)
				if n := len(w.triedBy(mx)); n != 1 {
					t.Errorf("%d attempts by mx", n)
				}
				var many []mail.ID
				for range 200 {
					many = append(many, w.send(1, ups(office, mx), "a@b.example"))
				}
				// A round at the black hole takes 30 seconds. Reports of the first that
				// come one by one let some more begin before the site is found dead;
				// then one is the probe.
				time.Sleep(100 * time.Second)
				for _, id := range many {
					w.want(id, 0, mail.Delivered)
				}
			})
		})
	}
}

// A destination that answers is never tried by another way: it could be
// greylisting, or it may have taken the message.
func TestAnsweredNeverGoesAnotherWay(t *testing.T) {
	for name, f := range map[string]func() *mail.Failure{"greylisted": greylisted, "unresolved": unresolved} {
		t.Run(name, func(t *testing.T) {
			scenario(t, Options{}, func(w *world) {
				w.way(office, fails(f))
				id := w.send(1, ups(office, mx), "a@b.example")
				time.Sleep(time.Hour)
				w.way(office, fails(unreach)) // even if it is down afterwards
				time.Sleep(5 * time.Hour)
				if n := len(w.triedBy(mx)); n != 0 {
					t.Errorf("%d attempts by mx", n)
				}
				if n := len(w.triedBy(office)); n < 4 {
					t.Errorf("%d attempts by the first way", n)
				}
				w.way(office, fine)
				time.Sleep(5 * time.Hour)
				w.want(id, 0, mail.Delivered)
			})
		})
	}
}

func TestPermanentFailure(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		w.way(mx, fails(noMailbox))
		id := w.send(1, ups(mx, office), "a@b.example", "b@b.example")
		time.Sleep(time.Second)
		w.want(id, 0, mail.Failed)
		w.want(id, 1, mail.Failed)
		w.wantEvents(id, mail.EventFailed)
		if e := w.events(id)[0]; len(e.Recipients) != 2 {
			t.Errorf("one event should tell of both: %+v", e)
		}
	})
}

// Recipients with different ends have events of their own.
func TestMixedResults(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		w.way(office, func(ctx context.Context, j *upstream.Job, to upstream.Target) upstream.Result {
			switch to.Index {
			case 1:
				return upstream.Result{Failure: noMailbox()}
			case 2:
				return upstream.Result{Failure: greylisted()}
			}
			return fine(ctx, j, to)
		})
		id := w.send(1, ups(office), "a@b.example", "b@c.example", "c@d.example", "d@e.example")
		time.Sleep(time.Second)
		for i, s := range []mail.State{mail.Delivered, mail.Failed, mail.Queued, mail.Delivered} {
			w.want(id, i, s)
		}
		w.wantEvents(id, mail.EventDelivered, mail.EventFailed, mail.EventDeferred)
	})
}

func TestManyRecipients(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		w.maxRcpts = 30
		id := w.send(1, ups(mx), append(addresses(900, "big.example"), addresses(300, "other.example")...)...)
		time.Sleep(time.Minute)
		st, err := w.sp.Load(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range st.Recipients {
			if r.State != mail.Delivered {
				t.Errorf("recipient %d is %s", i, r.State)
			}
		}
		if n := len(w.triedBy(mx)); n != 1200 {
			t.Errorf("%d attempts for 1200 recipients", n)
		}
	})
}

// A tenant with a long queue does not make another wait.
func TestFairness(t *testing.T) {
	scenario(t, Options{Workers: 10}, func(w *world) {
		w.way(platform, takes(time.Second))
		for n := range 20_000 {
			w.send(1, ups(platform), "a@b.example")
			if n%100 == 0 {
				time.Sleep(time.Millisecond) // ids of one millisecond differ by chance only
			}
		}
		time.Sleep(time.Minute)
		id := w.send(2, ups(platform), "a@b.example")
		time.Sleep(1100 * time.Millisecond)
		w.want(id, 0, mail.Delivered)
		if n := len(w.triedBy(platform)); n < 290 {
			t.Errorf("only %d attempts in a minute with 5 workers", n)
		}
	})
}

// A dead hop holds up nobody else, whatever waits for it.
func TestDeadHopDoesNotSlowOthers(t *testing.T) {
	scenario(t, Options{Workers: 50, PerTenant: 40}, func(w *world) {
		w.way(office, func(context.Context, *upstream.Job, upstream.Target) upstream.Result {
			time.Sleep(30 * time.Second)
			return upstream.Result{Failure: unreach()}
		})
		for range 2000 {
			w.send(1, ups(office), "a@b.example")
		}
		time.Sleep(5 * time.Minute)
		if n := w.d.Ready(); n != 0 {
			t.Errorf("%d jobs count as ready behind a dead hop", n)
		}
		id := w.send(1, ups(mx), "a@b.example")
		time.Sleep(time.Second)
		w.want(id, 0, mail.Delivered)
		n := len(w.triedBy(office))
		if n > 60 {
			t.Errorf("%d attempts at a dead hop in five minutes", n)
		}
		w.way(office, fine)
		time.Sleep(6 * time.Minute)
		if got := len(w.triedBy(office)) - n; got < 2000 {
			t.Errorf("%d of 2000 were delivered after the hop came back", got)
		}
	})
}

// When all ways are down, and then the first is back, everything goes by it.
func TestAllWaysDown(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		w.way(office, fails(unreach))
		w.way(mx, fails(unreach))
		var ids []mail.ID
		for range 300 {
			ids = append(ids, w.send(1, ups(office, mx), "a@b.example"))
		}
		time.Sleep(20 * time.Minute)
		if n := len(w.triedBy("")); n > 3000 {
			t.Errorf("%d attempts in vain", n)
		}
		w.way(office, fine)
		time.Sleep(12 * time.Minute)
		for _, id := range ids {
			w.want(id, 0, mail.Delivered)
		}
	})
}

func TestExpire(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		w.way(office, fails(unreach))
		short := func(m *mail.Message, _ []mail.Recipient) { m.Expires = m.Accepted.Add(time.Hour) }
		var ids []mail.ID
		for range 100 { // most of them never get an attempt: the lane is closed
			st := w.putAs(1, ups(office), []string{"a@b.example"}, short)
			ids = append(ids, st.Message.ID)
			w.d.Offer(st)
		}
		held := w.putAs(1, ups(office), []string{"a@b.example"}, func(m *mail.Message, rs []mail.Recipient) {
			short(m, rs)
			rs[0].State = mail.Held
		})
		w.d.Offer(held)
		time.Sleep(time.Hour + 5*time.Second)
		for _, id := range append(ids, held.Message.ID) {
			w.want(id, 0, mail.Expired)
		}
		types := w.eventTypes(ids[0])
		if types[len(types)-1] != mail.EventExpired {
			t.Errorf("events %v", types)
		}
	})
}

func TestTellsOfDelay(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		w.way(office, fails(greylisted))
		id := w.send(1, ups(office), "a@b.example")
		time.Sleep(3*time.Minute + 2*time.Second)
		w.wantEvents(id, mail.EventDeferred, mail.EventDelayed)
	})
}

func TestSendAt(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		st := w.putAs(1, ups(office), []string{"a@b.example"}, func(m *mail.Message, _ []mail.Recipient) { m.NotBefore = m.Accepted.Add(time.Hour) })
		w.d.Offer(st)
		time.Sleep(time.Hour - time.Second)
		w.want(st.Message.ID, 0, mail.Queued)
		time.Sleep(2 * time.Second)
		w.want(st.Message.ID, 0, mail.Delivered)
	})
}

func TestHeldIsReleasedByTheClock(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		st := w.putAs(1, ups(office), []string{"a@b.example"}, func(m *mail.Message, rs []mail.Recipient) {
			rs[0] = rs[0].Hold("policy", m.Accepted.Add(time.Hour))
			rs[0].State, rs[0].Next = mail.Held, m.Accepted.Add(time.Hour)
		})
		w.d.Offer(st)
		time.Sleep(time.Hour - time.Second)
		w.want(st.Message.ID, 0, mail.Held)
		time.Sleep(5 * time.Second)
		w.want(st.Message.ID, 0, mail.Delivered)
	})
}

// What is due before something that the clock has already dealt with is found
// within ten seconds.
func TestHeldUntilThePast(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		held := func(end time.Duration) *spool.Stored {
			return w.putAs(1, ups(office), []string{"a@b.example"}, func(m *mail.Message, rs []mail.Recipient) {
				rs[0] = rs[0].Hold("policy", m.Accepted.Add(end))
				rs[0].State, rs[0].Next = mail.Held, m.Accepted.Add(end)
			})
		}
		first := held(time.Minute)
		w.d.Offer(first)
		time.Sleep(time.Minute + 2*time.Second)
		w.want(first.Message.ID, 0, mail.Delivered)
		second := held(-30 * time.Second)
		w.d.Offer(second)
		time.Sleep(11 * time.Second)
		w.want(second.Message.ID, 0, mail.Delivered)
	})
}

func TestRestart(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		w.way(office, fails(greylisted))
		var ids []mail.ID
		for range 300 {
			ids = append(ids, w.send(1, ups(office), "a@b.example"))
		}
		for range 100 { // accepted, and then the process died before the hand-over
			ids = append(ids, w.put(2, ups(mx), "a@b.example").Message.ID)
		}
		time.Sleep(time.Second)
		w.way(office, fine)
		w.restart()
		time.Sleep(time.Second)
		for _, id := range ids[300:] {
			w.want(id, 0, mail.Delivered)
		}
		time.Sleep(10 * time.Minute)
		for _, id := range ids {
			w.want(id, 0, mail.Delivered)
		}
	})
}

// Attempts under way at a stop get their time; those cut short count for
// nothing and are made after the restart.
func TestStop(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		w.way(office, takes(10*time.Second))
		w.way(platform, takes(2*time.Minute))
		quick, slow := w.send(1, ups(office), "a@b.example"), w.send(1, ups(platform), "a@b.example")
		time.Sleep(time.Second)
		start := time.Now()
		w.halt()
		if d := time.Since(start); d < 29*time.Second || d > 31*time.Second {
			t.Errorf("Run took %v to stop", d)
		}
		w.want(quick, 0, mail.Delivered)
		if r := w.rcpt(slow, 0); r.State != mail.Queued || r.Tries != 0 {
			t.Errorf("cut attempt counts: %+v", r)
		}
		w.way(platform, fine)
		w.open()
		w.run()
		time.Sleep(time.Second)
		w.want(slow, 0, mail.Delivered)
	})
}

func TestOverflow(t *testing.T) {
	scenario(t, Options{Young: 20_000}, func(w *world) {
		w.way(office, takes(100*time.Millisecond))
		var ids []mail.ID
		for range 3000 {
			ids = append(ids, w.send(1, ups(office), "a@b.example"))
		}
		time.Sleep(time.Minute)
		for _, id := range ids {
			w.want(id, 0, mail.Delivered)
		}
		if n := len(w.triedBy("")); n != len(ids) {
			t.Errorf("%d attempts for %d messages", n, len(ids))
		}
	})
}

// What was offered late may have been found in the due index and dealt with
// long before.
func TestLateOfferIsNotTriedTwice(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		late := w.put(1, ups(office), "a@b.example")
		w.halt()
		w.open()
		w.run()
		time.Sleep(time.Second)
		w.want(late.Message.ID, 0, mail.Delivered)
		w.d.Offer(late)
		time.Sleep(time.Minute)
		if n := len(w.triedBy("")); n != 1 {
			t.Errorf("%d attempts", n)
		}
	})
}

func TestWindowIsSharedAtASite(t *testing.T) {
	scenario(t, Options{WindowMax: 5}, func(w *world) {
		w.way(mx, takes(time.Second))
		w.sites = map[string]string{"a.example": "hosting.example", "b.example": "hosting.example", "c.example": "hosting.example"}
		for i, domain := range []string{"a.example", "b.example", "c.example"} {
			for tenant := range mail.TenantID(3) {
				for range 10 {
					st := w.putAs(tenant+1, ups(mx), []string{"a@" + domain}, func(m *mail.Message, _ []mail.Recipient) {
						if i == 1 {
							m.Stream = mail.StreamBroadcast
						}
					})
					w.d.Offer(st)
				}
			}
		}
		time.Sleep(5 * time.Minute)
		if n := w.atOnce(mx); n != 5 {
			t.Errorf("%d jobs at once at a site with a window of 5", n)
		}
		if n := len(w.triedBy("")); n != 90 {
			t.Errorf("%d of 90 tried", n)
		}
	})
}

// At the same site, bulk mail gives way, but is not starved.
func TestTransactionalBeforeBroadcast(t *testing.T) {
	scenario(t, Options{WindowOther: 2, WindowMax: 2}, func(w *world) {
		w.way(office, takes(time.Second))
		bulk := func(m *mail.Message, _ []mail.Recipient) { m.Stream = mail.StreamBroadcast }
		for range 50 {
			w.d.Offer(w.putAs(1, ups(office), []string{"a@b.example"}, bulk))
		}
		time.Sleep(3 * time.Second)
		var ids []mail.ID
		for range 20 {
			ids = append(ids, w.send(1, ups(office), "a@b.example"))
		}
		time.Sleep(16 * time.Second)
		done := 0
		for _, id := range ids {
			if w.state(id, 0) == mail.Delivered {
				done++
			}
		}
		if done < 18 {
			t.Errorf("%d of 20 transactional messages delivered while bulk mail waits", done)
		}
		if n := len(w.triedBy(office)); n <= 20+6 {
			t.Errorf("bulk mail got nothing: %d attempts", n)
		}
	})
}

func TestBackpressureCountsReadyOnly(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		w.way(platform, takes(time.Second))
		for range 2000 {
			w.send(1, ups(platform), "a@b.example")
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if n := w.d.Ready(); n < 1500 || n > 2000 {
			t.Errorf("%d ready of 2000", n)
		}
		start := time.Now()
		w.d.Backpressure(context.Background())
		if d := time.Since(start); d != pressureMost {
			t.Errorf("delayed by %v", d)
		}
		time.Sleep(10 * time.Minute)
		start = time.Now()
		w.d.Backpressure(context.Background())
		if d := time.Since(start); d != 0 {
			t.Errorf("delayed by %v with nothing ready", d)
		}
	})
}

func TestPanics(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		w.way(office, func(context.Context, *upstream.Job, upstream.Target) upstream.Result { panic("upstream") })
		w.planErr = func(m *mail.Message, wish int) error {
			if m.Tenant == 2 {
				panic("planner")
			}
			return nil
		}
		one, two := w.send(1, ups(office, mx), "a@b.example"), w.send(2, ups(office), "a@b.example")
		time.Sleep(time.Second)
		for _, id := range []mail.ID{one, two} {
			r := w.rcpt(id, 0)
			if r.State != mail.Queued || r.Last == nil || r.Last.Scope != mail.OfUs {
				t.Errorf("%+v", r)
			}
		}
		if n := len(w.triedBy(mx)); n != 0 {
			t.Error("nobody knows what a panicking upstream has sent, and yet another way was tried")
		}
		w.mu.Lock()
		w.planErr = nil
		w.mu.Unlock()
		w.way(office, fine)
		time.Sleep(time.Minute)
		w.want(one, 0, mail.Delivered)
		w.want(two, 0, mail.Delivered)
	})
}

func TestNoMethodHolds(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		w.planErr = func(m *mail.Message, wish int) error {
			if wish == 0 {
				return mail.Fail(451, mail.Enhanced{4, 7, 0}, mail.OfRoute, mail.ReasonUnauthentic, "no method holds")
			}
			return nil
		}
		id := w.send(1, ups(office, mx), "a@b.example")
		time.Sleep(time.Second)
		w.want(id, 0, mail.Delivered)
		w.wantEvents(id, mail.EventFailover, mail.EventDelivered)
	})
}

func TestUnreadableBody(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		st := w.put(1, ups(office, mx), "a@b.example")
		st.Release()
		w.bl.Delete([16]byte(st.Message.ID), st.Body)
		w.d.Offer(st)
		time.Sleep(10 * time.Second)
		r := w.rcpt(st.Message.ID, 0)
		if r.State != mail.Queued || r.Last == nil || r.Last.Scope != mail.OfUs || r.Wish != 0 {
			t.Errorf("%+v", r)
		}
	})
}

// The route's quota: what was told to wait waits, and the site is not bothered.
func TestRetryAfter(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		w.way(office, fails(func() *mail.Failure {
			f := mail.Fail(451, mail.Enhanced{4, 7, 0}, mail.OfRoute, mail.ReasonRate, "quota")
			f.Stage, f.RetryAfter = mail.StageSession, 20*time.Minute
			return f
		}))
		w.send(1, ups(office), "a@b.example")
		time.Sleep(time.Second)
		for range 100 {
			w.send(1, ups(office), "a@b.example")
		}
		other := w.send(1, ups(office, mx), "a@b.example")
		time.Sleep(19 * time.Minute)
		if n := len(w.triedBy(office)); n != 1 {
			t.Errorf("%d attempts while the route said to wait", n)
		}
		w.want(other, 0, mail.Delivered)
		w.way(office, fine)
		time.Sleep(5 * time.Minute)
		if n := len(w.triedBy(office)); n != 102 {
			t.Errorf("%d attempts in all", n)
		}
	})
}

func TestSettleFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		broken := errors.New("disk gone")
		w.d = New(&failing{Spool: w.sp, err: broken}, (*planner)(w), w.o)
		w.run()
		w.send(1, ups(office), "a@b.example")
		if err := <-w.ended; !errors.Is(err, broken) {
			t.Errorf("Run: %v", err)
		}
		w.cancel()
		w.kv.Close()
	})
}

type failing struct {
	*spool.Spool
	err error
}

func (f *failing) Settle(_ spool.Outcome, done func(error)) { done(f.err) }

func TestQueues(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		w.way(office, fails(unreach))
		for range 100 {
			w.send(7, ups(office), "a@b.example")
		}
		time.Sleep(10 * time.Second)
		qs := w.d.Queues(context.Background())
		if len(qs) != 1 {
			t.Fatalf("%+v", qs)
		}
		q := qs[0]
		if q.Tenant != 7 || q.Depth != 100 || q.Limit != LimitDead || q.Closed == "" || q.LastFail == "" || q.Window != 1 {
			t.Errorf("%+v", q)
		}
		w.way(office, fine)
		w.d.Resume(7, office)
		time.Sleep(10 * time.Minute)
		if qs := w.d.Queues(context.Background()); len(qs) != 0 {
			t.Errorf("%+v", qs)
		}
	})
}

// What waits for a site is tried when its upstream is changed, and not when
// another's is.
func TestResume(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		w.way(office, fails(noAuth))
		w.send(7, ups(office), "a@b.example")
		time.Sleep(time.Second)
		waits := w.send(7, ups(office), "a@b.example")
		w.way(office, fine)
		for _, other := range []struct {
			t mail.TenantID
			u mail.UpstreamID
		}{{8, office}, {7, "connection:other"}, {7, platform}, {7, mx}} {
			w.d.Resume(other.t, other.u)
		}
		time.Sleep(time.Second)
		w.want(waits, 0, mail.Queued)
		w.d.Resume(7, office)
		time.Sleep(time.Second)
		w.want(waits, 0, mail.Delivered)

		w.way(office, fails(noAuth)) // and is put by again when that was no help
		w.send(7, ups(office), "a@b.example")
		time.Sleep(time.Second)
		before := len(w.triedBy(office))
		for range 1000 { // more than is noted at once
			w.d.Resume(7, office)
		}
		w.send(7, ups(office), "a@b.example")
		time.Sleep(time.Second)
		if n := len(w.triedBy(office)) - before; n > 1 {
			t.Errorf("%d attempts at a site that still refuses", n)
		}
	})
}

// What was accepted while the start scan ran is found by it and offered as well;
// it counts once. So does what a former process left behind.
func TestDepthAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		w.way(office, fails(unreach))
		depth := func(want int) {
			t.Helper()
			time.Sleep(10 * time.Second)
			if qs := w.d.Queues(context.Background()); len(qs) != 1 || qs[0].Depth != want {
				t.Errorf("depth is to be %d: %+v", want, qs)
			}
		}
		for range 30 {
			w.send(7, ups(office), "a@b.example")
		}
		w.run()
		depth(30)
		w.halt()
		w.open()
		for range 5 {
			w.send(7, ups(office), "a@b.example")
		}
		w.run()
		depth(35)
		w.stop()
	})
}
