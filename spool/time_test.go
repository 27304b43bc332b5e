package spool

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	kvmem "behalf/internal/kv/mem"
	"behalf/mail"
)

// dueTimers gives what is due for a message now, with the time since base.
func dueTimers(t *testing.T, s *Spool, base time.Time) string {
	t.Helper()
	ts, err := s.Timers(t.Context(), time.Now(), 100)
	if err != nil {
		t.Fatal(err)
	}
	out := ""
	for _, x := range ts {
		out += fmt.Sprintf("%s@%s ", x.What, x.At.Sub(base))
	}
	return out
}

// The life of a message by the clock: told of delays, held and released,
// expired, its body dropped, purged.
func TestTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kvs := kvmem.New(kvmem.Options{})
		defer kvs.Close()
		b := newBodies()
		s := openSpool(t, kvs, b, Options{})
		m, rs := message(s, 1, "a@x.example", "b@x.example")
		st := accept(t, s, m, rs)
		base := m.Accepted
		at := func(d time.Duration, want string) {
			t.Helper()
			time.Sleep(time.Until(base.Add(d)))
			if got := dueTimers(t, s, base); got != want {
				t.Errorf("after %v: due %q, want %q", d, got, want)
			}
		}
		tellDelay := func() {
			settle(t, s, Outcome{ID: m.ID, Events: []mail.Event{{At: time.Now(), Type: mail.EventDelayed}}})
		}
		at(3*time.Minute-time.Millisecond, "")
		at(3*time.Minute, "delay@3m0s ")
		tellDelay()
		at(3*time.Minute, "")
		at(5*time.Hour, "delay@1h0m0s ") // nobody ran for hours
		tellDelay()
		at(5*time.Hour, "") // the third delay went by as well, and is not told of again

		held := st.Recipients[0].Hold("look at it", base.Add(6*time.Hour))
		settle(t, s, Outcome{ID: m.ID, Changes: []Change{{0, held}}})
		at(6*time.Hour, "release@6h0m0s ")
		settle(t, s, Outcome{ID: m.ID, Changes: []Change{{0, held.Release(time.Now())}}})
		at(6*time.Hour, "")
		settle(t, s, delivered(st, 1))
		at(96*time.Hour, "expire@96h0m0s ")
		expired := load(t, s, m.ID).Recipients[0].End(mail.Expired, "", time.Now())
		settle(t, s, Outcome{ID: m.ID, Changes: []Change{{0, expired}}})
		at(96*time.Hour, "")
		at((96+7*24)*time.Hour-time.Millisecond, "")
		at((96+7*24)*time.Hour, "body@264h0m0s ")
		if err := s.Tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.OpenBody(t.Context(), load(t, s, m.ID)); !errors.Is(err, ErrBodyGone) || b.len() != 0 {
			t.Errorf("the body: %v, %d stored", err, b.len())
		}
		at((96+90*24)*time.Hour, "purge@2256h0m0s ")
		if err := s.Tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load(t.Context(), m.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("after the purge: %v", err)
		}
		at((96+90*24)*time.Hour, "")
		if got := s.Stats(); got.Messages != 0 || got.Recipients[mail.Delivered] != 0 || got.Recipients[mail.Expired] != 0 {
			t.Errorf("stats: %+v", got)
		}
	})
}

// Retention never stands before what the dispatcher waits for.
func TestTimersOfTheDispatcherComeFirst(t *testing.T) {
	s := openSpool(t, memStore(t), newBodies(), Options{KeepBodies: time.Millisecond, Delays: []time.Duration{}})
	var late []mail.ID
	for i := range 20 {
		m, rs := message(s, 1, "a@x.example")
		if i%2 == 0 {
			rs[0].State = mail.Discarded
		} else {
			m.Expires = m.Accepted.Add(time.Millisecond)
			late = append(late, m.ID)
		}
		accept(t, s, m, rs)
	}
	ts, err := s.Timers(t.Context(), time.Now().Add(time.Hour), 12)
	if err != nil || len(ts) != 12 {
		t.Fatalf("%d timers, %v", len(ts), err)
	}
	for i, x := range ts {
		if want := i < 10; (x.What == TimerExpire) != want {
			t.Errorf("timer %d is %v", i, x.What)
		}
	}
	rest, err := s.TimersAfter(t.Context(), time.Now().Add(time.Hour), &ts[3], 100)
	if err != nil || len(rest) != 6 || !slices.Contains(late, rest[0].ID) {
		t.Errorf("behind the fourth: %d timers, %v", len(rest), err)
	}
}

// Marks rise behind the present, are kept over a restart, and nothing that is
// put later is hidden below them.
func TestMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kvs := kvmem.New(kvmem.Options{})
		defer kvs.Close()
		s := openSpool(t, kvs, newBodies(), Options{})
		for range 10 {
			m, rs := message(s, 1, "a@x.example")
			st := accept(t, s, m, rs)
			settle(t, s, delivered(st, 0))
			time.Sleep(time.Hour)
		}
		dueTimers(t, s, time.Now())
		if err := s.Tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
		s = openSpool(t, kvs, newBodies(), Options{})
		if mark := s.marks[classLive].Load(); mark != time.Now().Add(-markAge).UnixMilli() {
			t.Errorf("the mark is at %v after a restart", millisTime(mark))
		}
		m, rs := message(s, 1, "a@x.example") // comes with a time that is long gone
		m.Accepted, m.Expires = m.Accepted.Add(-100*time.Hour), m.Accepted.Add(-4*time.Hour)
		accept(t, s, m, rs)
		if ts, err := s.Timers(t.Context(), time.Now(), 10); err != nil || len(ts) != 1 || ts[0].What != TimerDelay && ts[0].What != TimerExpire {
			t.Errorf("due: %+v, %v", ts, err)
		}
	})
}

// No event goes before every running follower has read it, and no event stays
// that nothing leads to.
func TestPurgeAndTheFeed(t *testing.T) {
	s := openSpool(t, memStore(t), newBodies(), Options{KeepBodies: time.Millisecond, KeepEvents: time.Millisecond})
	m, rs := message(s, 1, "a@x.example")
	st := accept(t, s, m, rs)
	if err := s.Purge(t.Context(), []mail.ID{m.ID}); !errors.Is(err, ErrBusy) {
		t.Errorf("purge of a queued message: %v", err)
	}
	next := st.Recipients[0]
	for range 700 { // more than a timeline keeps
		settle(t, s, deferred(&Stored{Message: m, Recipients: []mail.Recipient{next}}, 0, now()))
	}
	settle(t, s, delivered(st, 0))
	s.Following("slow", 600)
	time.Sleep(5 * time.Millisecond)
	if err := s.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	es, _, err := s.Events(t.Context(), 600, 1000)
	if err != nil || len(es) != 103 {
		t.Errorf("the follower still finds %d events, %v; want 103", len(es), err)
	}
	s.NotFollowing("slow")
	if err := s.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if es, _, err := s.Events(t.Context(), 0, 1000); err != nil || len(es) != 0 {
		t.Errorf("%d events are left, %v", len(es), err)
	}
	if err := s.Purge(t.Context(), []mail.ID{m.ID}); err != nil {
		t.Errorf("purge of what is gone: %v", err)
	}
	m, rs = message(s, 1, "a@x.example")
	accept(t, s, m, rs)
	if es, _, _ := s.Events(t.Context(), 0, 10); len(es) != 1 || es[0].Seq != 703 {
		t.Errorf("the next event: %+v", es)
	}
}

// A body that reclaim moves is found by those who read the message before.
func TestReclaim(t *testing.T) {
	b := newBodies()
	s := openSpool(t, memStore(t), b, Options{})
	m, rs := message(s, 1, "a@x.example")
	st := accept(t, s, m, rs)
	st.Release()
	m2, rs2 := message(s, 1, "a@x.example")
	rs2[0].State = mail.Discarded
	accept(t, s, m2, rs2)
	if err := s.DropBody(t.Context(), []mail.ID{m2.ID}); err != nil {
		t.Fatal(err)
	}
	if err := s.Reclaim(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b.len() != 1 {
		t.Errorf("%d bodies are stored", b.len())
	}
	if got := load(t, s, m.ID).Body; got == st.Body {
		t.Error("the body was not moved")
	}
	if got := readBody(t, s, st); got != "body of "+m.ID.String() {
		t.Errorf("through the old ref: %q", got)
	}
}
