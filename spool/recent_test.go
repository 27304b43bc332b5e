package spool

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"behalf/internal/kv"
	kvmem "behalf/internal/kv/mem"
	"behalf/mail"
)

// fromStore reads the feed as after a restart, when nothing is in memory.
func fromStore(t *testing.T, s *Spool, from uint64) []mail.Event {
	t.Helper()
	p := eventPage{s: s, next: from}
	if err := p.read(t.Context(), s.LastEvent(), 1<<30); err != nil {
		t.Fatal(err)
	}
	return p.events
}

// sameFeed compares what followers are given with what is stored.
func sameFeed(t *testing.T, s *Spool) {
	t.Helper()
	var got []mail.Event
	for from := uint64(0); ; {
		es, next, err := s.Events(t.Context(), from, 7)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, es...)
		if next == from {
			break
		}
		from = next
	}
	if want := fromStore(t, s, 0); !reflect.DeepEqual(got, want) {
		t.Errorf("%d events are given, %d are stored:\n%+v\n%+v", len(got), len(want), got, want)
	}
}

func (s *Spool) remembered(seq uint64) bool {
	found, _ := s.feed.recent(seq, 1, nil)
	return len(found) == 1
}

func TestRecentEventsAreThoseOfTheStore(t *testing.T) {
	st := kvmem.New(kvmem.Options{})
	defer st.Close()
	s := openSpool(t, st, newBodies(), Options{})
	put := func(extra func(kv.Writer) error) (*Stored, error) {
		m, rs := message(s, 7, "a@dest.example")
		d := s.Draft()
		d.Write([]byte("body"))
		return s.Put(t.Context(), d, m, rs, &mail.Acceptance{Client: "192.0.2.7"}, extra)
	}
	a, err := put(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !s.remembered(s.LastEvent()) {
		t.Error("the event of a Put is not in memory")
	}
	settle := func(st *Stored) {
		if err := s.SettleNow(t.Context(), []Outcome{delivered(st, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	settle(a)
	sameFeed(t, s)

	// What fails was never there, whoever comes behind it.
	if _, err := put(func(kv.Writer) error { return errors.New("no") }); err == nil {
		t.Fatal("put")
	}
	big := func(w kv.Writer) error { // after our own writes
		return s.Append(w, mail.Event{Type: "test.event", Reason: fmt.Sprintf("%0600000d", 1)})
	}
	if _, err := put(big); err == nil {
		t.Fatal("put")
	}
	b, err := put(nil)
	if err != nil {
		t.Fatal(err)
	}
	sameFeed(t, s)

	// What was appended by others is between them, and is read from the store.
	if err := s.Update(t.Context(), func(w kv.Writer) error { return s.Append(w, mail.Event{Type: "test.event", Message: b.Message.ID}) }); err != nil {
		t.Fatal(err)
	}
	if s.remembered(s.LastEvent()) {
		t.Error("an event of somebody else's transaction is in memory")
	}
	settle(b)
	sameFeed(t, s)

	// Nothing is told of what was purged.
	if err := s.Purge(t.Context(), []mail.ID{a.Message.ID}); err != nil {
		t.Fatal(err)
	}
	sameFeed(t, s)
}

// A function that runs again leaves nothing of its first run.
func TestRecentEventsOfAFunctionThatRunsAgain(t *testing.T) {
	st := kvmem.New(kvmem.Options{})
	defer st.Close()
	s := openSpool(t, st, newBodies(), Options{})
	e := mail.Event{At: now(), Type: "test.event"}
	b, _ := encodeEvent(&e)
	run := s.tx()
	write := func(t *tx) error { _, err := t.event(kindOf(&e), b); return err }
	err := st.Update(t.Context(), func(w kv.Writer) error {
		if err := run.run(w, write); err != nil {
			return err
		}
		return run.run(w, write)
	})
	if err != nil {
		t.Fatal(err)
	}
	s.committed(run)
	if s.remembered(1) || !s.remembered(2) {
		t.Errorf("in memory: %v, %v", s.remembered(1), s.remembered(2))
	}
}

// However many and large events are, the memory for them is bounded.
func TestRecentEventsAreBounded(t *testing.T) {
	for _, size := range []int{10, 1000, 10_000, recentBytes / 2, 2 * recentBytes} {
		var rs recents
		value := make([]byte, size)
		for seq := uint64(1_000_000); seq < 1_005_000; seq += 1 + seq%7/6 { // with gaps
			rs.keep(recent{seq, kind{typ: "test.event"}, value})
			n, bytes := 0, 0
			if seq%100 == 0 {
				for _, s := range rs.slots {
					n, bytes = n+min(len(s.value), 1), bytes+len(s.value)
				}
				if n > recentEvents || bytes > recentBytes || bytes != rs.bytes {
					t.Fatalf("%d events of %d octets: %d are kept, %d octets, counted %d", seq, size, n, bytes, rs.bytes)
				}
			}
			if _, ok := rs.get(seq); size < recentBytes && !ok {
				t.Fatalf("the newest of %d octets is not kept", size)
			}
		}
	}
}

// Of deliveries only those are given of which somebody asked to be told, from
// memory and from the store alike.
func TestChoiceOfEvents(t *testing.T) {
	s := openSpool(t, memStore(t), newBodies(), Options{})
	m, rs := message(s, 7, "a@dest.example", "b@dest.example", "c@dest.example")
	st := accept(t, s, m, rs)
	for i := range 3 {
		o := delivered(st, i)
		o.Events[0].Recipients, o.Events[0].Success = []int{i}, i == 1
		settle(t, s, o)
	}
	delivery := []mail.EventType{mail.EventDelivered}
	for _, from := range []string{"memory", "the store"} {
		for _, c := range []struct {
			choice Choice
			want   int
		}{{Choice{}, 4}, {Choice{Types: delivery}, 3}, {Choice{Asked: true}, 2}, {Choice{Types: delivery, Asked: true}, 1}, {Choice{Types: []mail.EventType{mail.EventFailed}}, 0}} {
			es, next, err := s.EventsOf(t.Context(), c.choice, 0, 100)
			if err != nil || len(es) != c.want || next != 5 {
				t.Errorf("%+v from %s: %d events up to %d, %v; want %d", c.choice, from, len(es), next, err, c.want)
			}
			for _, e := range es {
				if c.choice.Asked && e.Type == mail.EventDelivered && (!e.Success || !slices.Equal(e.Recipients, []int{1})) {
					t.Errorf("%+v from %s: %+v", c.choice, from, e)
				}
			}
		}
		s.feed.forget(1, 2, 3, 4)
	}
}
