package dispatch

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
	"behalf/spool"
)

// The messages of one tenant that become late together are larger, all rows of
// them, than one transaction: that ends nobody's delivery.
func TestManyLargeBecomeLate(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		w.way(office, fails(greylisted))
		var ids []mail.ID
		for range 128 {
			st := w.putAs(1, ups(office), addresses(64, "b.example"), func(_ *mail.Message, rs []mail.Recipient) {
				for i := range rs {
					rs[i].ORcpt = "rfc822;" + strings.Repeat("x", 500)
				}
			})
			ids = append(ids, st.Message.ID)
			w.d.Offer(st)
		}
		time.Sleep(4 * time.Minute)
		for _, id := range ids {
			if !slices.Contains(w.eventTypes(id), mail.EventDelayed) {
				t.Fatalf("nobody was told that %s is late: %v", id, w.eventTypes(id))
			}
		}
		w.want(w.send(2, ups(platform), "a@c.example"), 0, mail.Queued)
		time.Sleep(time.Second)
		if n := len(w.triedBy(platform)); n != 1 {
			t.Errorf("%d attempts for another tenant afterwards", n)
		}
	})
}

// refusing is a spool that cannot store outcomes of some messages.
type refusing struct {
	store
	mu  sync.Mutex
	ids []mail.ID
}

func (r *refusing) refuse(ids ...mail.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids = ids
}

func (r *refusing) large(id mail.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.ids, id)
}

func (r *refusing) Settle(o spool.Outcome, done func(error)) {
	if r.large(o.ID) {
		done(&spool.TooLargeError{IDs: []mail.ID{o.ID}, Err: kv.ErrTooBig})
		return
	}
	r.store.Settle(o, done)
}

func (r *refusing) SettleNow(ctx context.Context, os []spool.Outcome) error {
	var large spool.TooLargeError
	var rest []spool.Outcome
	for _, o := range os {
		if r.large(o.ID) {
			large.IDs, large.Err = append(large.IDs, o.ID), kv.ErrTooBig
		} else {
			rest = append(rest, o)
		}
	}
	err := r.store.SettleNow(ctx, rest)
	if large.Err != nil {
		err = errors.Join(err, &large)
	}
	return err
}

// A message whose outcome cannot be stored rests, and everything else goes on.
func TestOutcomeTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		sp := &refusing{store: w.sp}
		w.d.sp = sp
		w.run()
		large := w.put(1, ups(office), "a@b.example")
		id := large.Message.ID
		sp.refuse(id)
		w.d.Offer(large)
		other := w.send(1, ups(office), "b@b.example")
		time.Sleep(time.Second)
		w.want(other, 0, mail.Delivered)
		w.want(id, 0, mail.Queued)
		time.Sleep(stuckFor / 2)
		if n := len(w.triedBy(office)); n != 2 {
			t.Errorf("%d attempts, want one for each message", n)
		}
		n, err := w.d.Hold(context.Background(), Selection{IDs: []mail.ID{id, w.put(1, ups(office), "c@b.example").Message.ID}}, alice)
		if n != 1 || !errors.Is(err, kv.ErrTooBig) {
			t.Errorf("hold: %d changed, %v", n, err)
		}
		sp.refuse()
		time.Sleep(stuckFor)
		w.want(id, 0, mail.Delivered)
		w.stop()
	})
}
