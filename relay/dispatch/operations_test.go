package dispatch

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"behalf/mail"
	"behalf/spool"
)

var alice = Op{Actor: "alice", Reason: "because"}

func TestHoldReleaseCancelRetry(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		ctx := context.Background()
		w.way(office, fails(greylisted))
		id := w.send(1, ups(office), "a@b.example", "b@b.example")
		time.Sleep(time.Second)
		sel := Selection{IDs: []mail.ID{id}}
		check := func(what string, n int, err error, want int) {
			t.Helper()
			if n != want || err != nil {
				t.Errorf("%s: %d changed, %v; want %d", what, n, err, want)
			}
		}
		n, err := w.d.Retry(ctx, sel, alice)
		check("retry", n, err, 2)
		time.Sleep(time.Second)
		if n := len(w.triedBy(office)); n != 4 {
			t.Errorf("%d attempts after retry", n)
		}
		n, err = w.d.Hold(ctx, sel, alice)
		check("hold", n, err, 2)
		n, err = w.d.Hold(ctx, sel, alice)
		check("hold again", n, err, 0)
		time.Sleep(time.Hour)
		w.want(id, 0, mail.Held)
		w.way(office, fine)
		n, err = w.d.Release(ctx, sel, alice)
		check("release", n, err, 2)
		time.Sleep(time.Second)
		w.want(id, 0, mail.Delivered)
		n, err = w.d.Cancel(ctx, sel, alice)
		check("cancel what is done", n, err, 0)
		w.wantEvents(id, mail.EventDeferred, mail.EventRetried, mail.EventDeferred, mail.EventHeld, mail.EventReleased, mail.EventDelivered)
		for _, e := range w.events(id) {
			if e.Type == mail.EventHeld && (e.Actor != "alice" || e.Reason != "because" || len(e.Recipients) != 2) {
				t.Errorf("%+v", e)
			}
		}
		if _, err := w.d.Cancel(ctx, Selection{IDs: []mail.ID{{1}}}, alice); !errors.Is(err, spool.ErrNotFound) {
			t.Errorf("operation on what is not there: %v", err)
		}
	})
}

func TestHoldUntil(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		w.way(office, fails(greylisted))
		id := w.send(1, ups(office), "a@b.example")
		time.Sleep(time.Second)
		op := alice
		op.Until = time.Now().Add(time.Hour)
		if n, err := w.d.Hold(context.Background(), Selection{IDs: []mail.ID{id}}, op); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		w.way(office, fine)
		time.Sleep(time.Hour - 2*time.Second)
		w.want(id, 0, mail.Held)
		time.Sleep(4 * time.Second)
		w.want(id, 0, mail.Delivered)
	})
}

// An operation on what is being tried waits for the attempt: its outcome counts
// if it is final, and the operation does if it leaves the recipient queued, even
// if another way is due at once.
func TestOperationRacesAttempt(t *testing.T) {
	for _, c := range []struct {
		name string
		ends way
		want mail.State
		n    int
	}{
		{"delivered", fine, mail.Delivered, 0},
		{"refused", fails(noMailbox), mail.Failed, 0},
		{"deferred", fails(greylisted), mail.Cancelled, 1},
		{"failover", fails(noAuth), mail.Cancelled, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			scenario(t, Options{}, func(w *world) {
				slow := takes(10 * time.Second)
				w.way(office, func(ctx context.Context, j *job1, to target) result {
					slow(ctx, j, to)
					return c.ends(ctx, j, to)
				})
				id := w.send(1, ups(office, mx), "a@b.example")
				time.Sleep(time.Second)
				start := time.Now()
				n, err := w.d.Cancel(context.Background(), Selection{IDs: []mail.ID{id}}, alice)
				if n != c.n || err != nil {
					t.Errorf("%d changed, %v", n, err)
				}
				if d := time.Since(start); d < 8*time.Second || d > 10*time.Second {
					t.Errorf("came back after %v", d)
				}
				w.want(id, 0, c.want)
				time.Sleep(time.Hour)
				w.want(id, 0, c.want)
				if n := len(w.triedBy(mx)); n != 0 {
					t.Errorf("%d attempts by another way after the cancel", n)
				}
			})
		})
	}
}

// Who cannot wait is told, and the operation follows all the same.
func TestOperationRemembered(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		slow := takes(10 * time.Second)
		w.way(office, func(ctx context.Context, j *job1, to target) result {
			slow(ctx, j, to)
			return result{Failure: greylisted()}
		})
		id := w.send(1, ups(office), "a@b.example")
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if n, err := w.d.Hold(ctx, Selection{IDs: []mail.ID{id}}, alice); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%d changed, %v", n, err)
		}
		time.Sleep(20 * time.Second)
		w.want(id, 0, mail.Held)
	})
}

func TestBulk(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		ctx := context.Background()
		w.way(office, fails(mailboxFull))
		for i := range 1000 {
			w.send(mail.TenantID(1+i%2), ups(office), "a@b.example", fmt.Sprintf("b%d@c.example", i))
		}
		time.Sleep(time.Minute)
		one := mail.TenantID(1)
		n, err := w.d.Hold(ctx, Selection{Filter: &spool.Filter{Tenant: &one, Domain: "c.example"}}, alice)
		if n != 500 || err != nil {
			t.Errorf("hold: %d, %v", n, err)
		}
		if st := w.sp.Stats().Recipients; st[mail.Held] != 500 || st[mail.Deferred] != 1500 {
			t.Errorf("%v", st)
		}
		n, err = w.d.Release(ctx, Selection{Filter: &spool.Filter{State: mail.Held}}, alice)
		if n != 500 || err != nil {
			t.Errorf("release: %d, %v", n, err)
		}
		w.way(office, fine)
		n, err = w.d.Retry(ctx, Selection{Filter: &spool.Filter{State: mail.Deferred}}, alice)
		if n < 1500 || err != nil {
			t.Errorf("retry: %d, %v", n, err)
		}
		time.Sleep(10 * time.Minute)
		if st := w.sp.Stats().Recipients; st[mail.Delivered] != 2000 {
			t.Errorf("%v", st)
		}
	})
}

// A cancelled message is never tried, though its reference was in a head.
func TestCancelWhatWaits(t *testing.T) {
	scenario(t, Options{WindowOther: 1, WindowMax: 1}, func(w *world) {
		w.way(office, takes(time.Second))
		var ids []mail.ID
		for range 30 {
			ids = append(ids, w.send(1, ups(office), "a@b.example"))
		}
		time.Sleep(500 * time.Millisecond)
		if n, err := w.d.Cancel(context.Background(), Selection{IDs: ids[1:]}, alice); n != 29 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		time.Sleep(time.Minute)
		if n := len(w.triedBy(office)); n != 1 {
			t.Errorf("%d attempts", n)
		}
	})
}

func TestOperationsAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		w.run()
		synctest.Wait()
		w.stop()
		if _, err := w.d.Hold(context.Background(), Selection{IDs: []mail.ID{{1}}}, alice); !errors.Is(err, ErrStopped) {
			t.Error(err)
		}
		if qs := w.d.Queues(context.Background()); qs != nil {
			t.Error(qs)
		}
	})
}

func TestParts(t *testing.T) {
	o := spool.Outcome{Events: []mail.Event{{Type: mail.EventHeld}}}
	for i := range 1100 {
		o.Changes = append(o.Changes, spool.Change{Index: i})
		o.Events[0].Recipients = append(o.Events[0].Recipients, i)
	}
	next := 0
	for _, p := range parts(o, 512) {
		if len(p.Changes) > 512 || len(p.Events) != 1 || len(p.Events[0].Recipients) != len(p.Changes) {
			t.Fatalf("%d changes, %d events", len(p.Changes), len(p.Events))
		}
		for i := range p.Changes {
			if p.Changes[i].Index != next || p.Events[0].Recipients[i] != next {
				t.Fatalf("change %d is %d", next, p.Changes[i].Index)
			}
			next++
		}
	}
	if next != 1100 {
		t.Errorf("%d changes in all", next)
	}
}

// Who may make what due, and when: nobody walks past the time that a client,
// policy or a limit gave, and a tenant past no hold but its own.
func TestNotPastWhatHolds(t *testing.T) {
	tenant, admin := Op{Actor: "acme/app"}, Op{Actor: "admin", Admin: true}
	day := func(n int) func(now time.Time) time.Time {
		return func(now time.Time) time.Time { return now.Add(time.Duration(n) * 24 * time.Hour) }
	}
	zero := func(time.Time) time.Time { return time.Time{} }
	for _, c := range []struct {
		name         string
		message, own func(time.Time) time.Time // not before
		heldBy       string                    // "": queued
		release      bool                      // else retry
		by           Op
		changed      int
		at           func(time.Time) time.Time // nil: stays held
	}{
		{"retry of what was to wait", day(1), zero, "", false, tenant, 0, day(1)},
		{"retry of what is paced", zero, day(2), "", false, tenant, 0, day(2)},
		{"retry by an administrator", day(1), zero, "", false, admin, 0, day(1)},
		{"release of its own hold", zero, zero, mail.HeldByTenant, true, tenant, 1, day(0)},
		{"release of what was to wait", day(1), day(2), mail.HeldByTenant, true, tenant, 1, day(2)},
		{"release of a hold by policy", zero, zero, mail.HeldByPolicy, true, tenant, 0, nil},
		{"release of a hold by an administrator", zero, zero, mail.HeldByAdmin, true, tenant, 0, nil},
		{"release by an administrator", zero, zero, mail.HeldByPolicy, true, admin, 1, day(0)},
		{"release by an administrator of what is paced", zero, day(1), mail.HeldByPolicy, true, admin, 1, day(1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			scenario(t, Options{}, func(w *world) {
				now := time.Now()
				st := w.putAs(1, ups(office), addresses(1, "b.example"), func(m *mail.Message, rs []mail.Recipient) {
					m.NotBefore = c.message(now)
					r := &rs[0]
					r.State, r.NotBefore = mail.Queued, c.own(now)
					r.Next = later(later(now.Add(time.Second), m.NotBefore), r.NotBefore)
					if c.heldBy != "" {
						*r = r.Hold("because", time.Time{})
						r.HeldBy = c.heldBy
					}
				})
				id := st.Message.ID
				do := w.d.Retry
				if c.release {
					do = w.d.Release
				}
				if n, err := do(context.Background(), Selection{IDs: []mail.ID{id}}, c.by); n != c.changed || err != nil {
					t.Errorf("%d changed, %v; want %d", n, err, c.changed)
				}
				switch r := w.rcpt(id, 0); {
				case c.at == nil && r.State != mail.Held:
					t.Errorf("it is %s, want held", r.State)
				case c.at == nil:
				case r.State == mail.Delivered && !c.at(now).After(now):
				case r.State != mail.Queued || !r.Next.Equal(c.at(now).Truncate(time.Millisecond)):
					t.Errorf("it is %s until %v, want queued until %v", r.State, r.Next, c.at(now))
				}
			})
		})
	}
}

// A hold says who may end it.
func TestHoldSaysWho(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		w.way(office, fails(greylisted))
		ctx := context.Background()
		id := w.send(1, ups(office), "a@b.example")
		time.Sleep(time.Second)
		sel := Selection{IDs: []mail.ID{id}}
		for _, op := range []Op{{Actor: "acme/app"}, {Actor: "admin", Admin: true}} {
			if n, err := w.d.Hold(ctx, sel, op); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			want := map[bool]string{false: mail.HeldByTenant, true: mail.HeldByAdmin}[op.Admin]
			if r := w.rcpt(id, 0); r.HeldBy != want {
				t.Errorf("held by %q, want %q", r.HeldBy, want)
			}
			if n, err := w.d.Release(ctx, sel, op); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			if r := w.rcpt(id, 0); r.HeldBy != "" {
				t.Errorf("released, but held by %q", r.HeldBy)
			}
		}
	})
}
