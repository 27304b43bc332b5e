package dispatch

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"behalf/mail"
)

// Who came onto the list while a message waited is not tried again; the others
// are, and what is just accepted costs no question.
func TestSuppressedMeanwhile(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		w.way(office, fails(greylisted))
		id := w.send(1, ups(office), addresses(5, "b.example")...)
		time.Sleep(time.Second)
		w.mu.Lock()
		if w.asked != 0 {
			t.Errorf("asked %d times for a message of this minute", w.asked)
		}
		w.listed = map[string]string{"u1@b.example": "unsubscribed", "u3@b.example": "unsubscribed", "u4@b.example": "manual"}
		w.mu.Unlock()
		w.way(office, fine)
		time.Sleep(10 * time.Minute)
		ends := []mail.State{mail.Delivered, mail.Suppressed, mail.Delivered, mail.Suppressed, mail.Suppressed}
		for i, want := range ends {
			w.want(id, i, want)
		}
		if r := w.rcpt(id, 4); r.Reason != "manual" {
			t.Errorf("suppressed because of %q", r.Reason)
		}
		if n := len(w.triedBy(office)); n != 7 {
			t.Errorf("%d attempts, want five and then two", n)
		}
		told := map[int]mail.State{}
		for _, e := range w.events(id) {
			for _, i := range e.Recipients {
				switch e.Type {
				case mail.EventDelivered:
					told[i] = mail.Delivered
				case mail.EventSuppressed:
					told[i] = mail.Suppressed
				}
			}
		}
		for i, want := range ends {
			if told[i] != want {
				t.Errorf("recipient %d is told to be %q, want %q", i, told[i], want)
			}
		}
	})
}

// At a way out that takes one recipient at a time, and with nobody left.
func TestSuppressedOneByOne(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		w.maxRcpts = 1
		w.listed = map[string]string{"u0@b.example": "manual", "u2@b.example": "manual", "a@b.example": "manual"}
		var ids []mail.ID
		for _, to := range [][]string{addresses(4, "b.example"), {"a@b.example"}} {
			st := w.putAs(1, ups(office), to, func(m *mail.Message, _ []mail.Recipient) { m.NotBefore = m.Accepted.Add(time.Hour) })
			ids = append(ids, st.Message.ID)
			w.d.Offer(st)
		}
		time.Sleep(time.Hour + time.Minute)
		for i, want := range []mail.State{mail.Suppressed, mail.Delivered, mail.Suppressed, mail.Delivered} {
			w.want(ids[0], i, want)
		}
		w.want(ids[1], 0, mail.Suppressed)
		if n := len(w.triedBy(office)); n != 2 {
			t.Errorf("%d attempts", n)
		}
	})
}

// A list that cannot be read defers the attempt: nobody is mailed who may be on
// it.
func TestListCannotBeRead(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		w.listErr = errors.New("the store is away")
		st := w.putAs(1, ups(office), addresses(2, "b.example"), func(m *mail.Message, _ []mail.Recipient) {
			m.NotBefore = m.Accepted.Add(time.Hour)
		})
		id := st.Message.ID
		w.d.Offer(st)
		time.Sleep(time.Hour + time.Second)
		if r := w.rcpt(id, 0); r.Shown() != mail.Deferred || len(w.triedBy(office)) != 0 {
			t.Errorf("%+v", r)
		}
		w.mu.Lock()
		w.listErr = nil
		w.mu.Unlock()
		time.Sleep(10 * time.Minute)
		w.want(id, 0, mail.Delivered)
	})
}

// A release leaves out who came onto the list meanwhile, even within the minute
// in which an attempt would not ask.
func TestSuppressedAtRelease(t *testing.T) {
	scenario(t, Options{}, func(w *world) {
		st := w.putAs(1, ups(office), addresses(3, "b.example"), func(_ *mail.Message, rs []mail.Recipient) {
			for i := range rs {
				rs[i].State = mail.Held
			}
		})
		id := st.Message.ID
		sel := Selection{IDs: []mail.ID{id}}
		w.mu.Lock()
		w.listed = map[string]string{"u1@b.example": "unsubscribed"}
		w.mu.Unlock()
		if n, err := w.d.Release(context.Background(), sel, alice); n != 3 || err != nil {
			t.Errorf("%d changed, %v", n, err)
		}
		time.Sleep(time.Second)
		for i, want := range []mail.State{mail.Delivered, mail.Suppressed, mail.Delivered} {
			w.want(id, i, want)
		}
		for _, e := range w.events(id) {
			want := map[mail.EventType]string{mail.EventHeld: "[0 1 2]", mail.EventSuppressed: "[1]", mail.EventReleased: "[0 2]", mail.EventDelivered: "[0 2]"}[e.Type]
			if got := fmt.Sprint(e.Recipients); got != want {
				t.Errorf("%s of %s, want %s", e.Type, got, want)
			}
		}
	})
}
